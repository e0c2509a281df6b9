import assert from 'node:assert/strict';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { newEmail, registerUser, sendCode } from './accounts.ts';
import { hasChromium, launchChromium } from './browser.ts';
import { type System, startSystem } from './system.ts';

describe('pages in a browser', { skip: hasChromium ? false : 'there is no Chromium here' }, () => {
  let browser: Browser;
  let system: System;
  let origin: string;

  before(async () => {
    system = await startSystem('sqlite+memory', { NODE_ENV: 'development', PUBLIC_URL: 'http://localhost' });
    await system.app.listen({ host: '127.0.0.1', port: 0 });
    origin = `http://127.0.0.1:${(system.app.server.address() as AddressInfo).port}`;
    browser = await launchChromium();
  });

  after(async () => {
    await browser?.close();
    await system?.close();
  });

  /** Opens a page and collects everything that the browser complains about. */
  async function open(path: string): Promise<{ page: Page; complaints: string[] }> {
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    page.on('console', (message) => {
      if (message.type() === 'error') complaints.push(message.text());
    });
    await page.goto(origin + path);
    return { page, complaints };
  }

  test('a token pasted into Authorize on /docs is sent with the requests that need it', async () => {
    const user = await registerUser(system);
    const { page, complaints } = await open('/docs');
    await page.locator('button.authorize').first().click();
    await page.locator('.auth-container input').fill(user.accessToken);
    await page.locator('.auth-container button[type=submit]').click();
    await page.locator('.btn-done').click();
    const operation = page.locator('#operations-Account-getMe');
    await operation.locator('.opblock-summary').click();
    await operation.locator('button.execute').click();
    const answer = operation.locator('.live-responses-table');
    await answer.getByText(user.email).first().waitFor();
    assert.match((await answer.textContent()) ?? '', /200/);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('a code can be asked for on /docs with the example as it stands', async () => {
    const { page, complaints } = await open('/docs');
    const operation = page.locator('#operations-Verification-sendCode');
    await operation.locator('.opblock-summary').click();
    await operation.locator('button.execute').click();
    await operation.locator('.live-responses-table').getByText('resend_after').first().waitFor();
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('the development mailbox shows the mail as text, and nothing in it is run', async () => {
    const email = newEmail();
    await sendCode(system, email, 'registration');
    const mail = {
      to: '<img src=x onerror=alert(1)>@example.com',
      subject: '<script>document.title = "run"</script>',
      text: '<b>bold</b>',
      html: '',
    };
    await system.deps.mailbox?.send(mail, 'id');
    const { page, complaints } = await open('/dev/mailbox');
    const text = (await page.locator('main').textContent()) ?? '';
    assert.ok(text.includes(email));
    assert.ok(text.includes('<script>document.title = "run"</script>'));
    assert.equal(await page.title(), 'Latchkey: development mailbox');
    assert.equal(await page.locator('main script, main img, main b').count(), 0);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('the page of a problem’s type shows the section of its code', async () => {
    const { page, complaints } = await open('/docs/errors#invalid_code');
    assert.ok(await page.locator('section#invalid_code').isVisible());
    assert.deepEqual(complaints, []);
    await page.close();
  });
});
