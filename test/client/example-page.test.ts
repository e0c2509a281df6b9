import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { goodPassword, newEmail } from '../accounts.ts';
import { hasChromium, launchChromium } from '../browser.ts';
import { findFreePort } from '../ports.ts';

const startLimitMs = 60_000;

describe('the example', { skip: hasChromium ? false : 'there is no Chromium here' }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-example-'));
  const email = newEmail();
  let example: Awaited<ReturnType<typeof startExample>>;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  const complaints: string[] = [];

  before(async () => {
    [example, browser] = await Promise.all([startExample(folder), launchChromium()]);
    context = await browser.newContext();
    context.setDefaultTimeout(10_000);
    page = await openTab();
  });
  after(async () => {
    await browser?.close();
    await example?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  async function openTab(): Promise<Page> {
    const tab = await context.newPage();
    tab.on('pageerror', (error) => complaints.push(error.message));
    tab.on('console', (message) => {
      // A refusal that a test provokes is written to the console by the browser itself.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) {
        complaints.push(message.text());
      }
    });
    await tab.goto(example.origin);
    return tab;
  }

  async function readCode(): Promise<string> {
    const answer = await fetch(`${example.service}/dev/mailbox`, { headers: { accept: 'application/json' } });
    const { items } = (await answer.json()) as { items: { to: string; subject: string }[] };
    return items.find(({ to }) => to === email)?.subject.slice(0, 6) ?? '';
  }

  test('an account is created with a code from the mailbox', async () => {
    await page.locator('#send-code input[name=email]').fill(email);
    await page.getByRole('button', { name: 'Mail me a code' }).click();
    await page.getByText('A code is on its way').waitFor();
    assert.equal(
      await page.getByRole('link', { name: 'mailbox' }).getAttribute('href'),
      `${example.service}/dev/mailbox`,
    );
    await page.getByLabel('Code', { exact: true }).fill('000000');
    await page.getByLabel(/^\s*New password/).fill(goodPassword);
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.getByRole('alert').getByText('That code is not right').waitFor();
    await page.getByLabel('Code', { exact: true }).fill(await readCode());
    await page.getByRole('button', { name: 'Continue' }).click();
    await page.getByText(email).waitFor();
    assert.equal(await page.locator('#problem').textContent(), '');
  });

  test('notes are kept for their user, and what looks like markup is text', async () => {
    const text = '<img src=x onerror="document.title=1">';
    await page.getByLabel('New note').fill(text);
    await page.getByRole('button', { name: 'Add' }).click();
    await page.locator('#notes li').getByText(text).waitFor();
    assert.equal(await page.locator('#notes img').count(), 0);
    await page.reload();
    await page.locator('#notes li').getByText(text).waitFor();
  });

  test('a second tab is signed in, and signs out with the first', async () => {
    const second = await openTab();
    await second.locator('#notes li').first().waitFor();
    await page.getByRole('button', { name: 'Sign out', exact: true }).click();
    await second.getByRole('status').getByText('You are signed out.').waitFor();
    assert.equal(await second.locator('#notes li').count(), 0, 'nothing of the user is left on the page');
    await second.close();
  });

  test('a wrong password is said in words, and the right one signs in', async () => {
    await page.locator('#sign-in input[name=email]').fill(email);
    await page.locator('#sign-in input[name=password]').fill('not the password');
    await page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await page.getByRole('alert').getByText('The address or the password is not right.').waitFor();
    await page.locator('#sign-in input[name=password]').fill(goodPassword);
    await page.getByRole('button', { name: 'Sign in', exact: true }).click();
    await page.locator('#notes li').first().waitFor();
  });

  test('another session is listed and can be ended', async () => {
    const answer = await fetch(`${example.service}/auth/login`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ email, password: goodPassword }),
    });
    const { refresh_token } = (await answer.json()) as { refresh_token: string };
    await page.reload();
    await page.getByText('this one').waitFor();
    await page.getByRole('button', { name: 'End this session' }).click();
    await page.getByRole('button', { name: 'End this session' }).waitFor({ state: 'detached' });
    const refused = await fetch(`${example.service}/auth/refresh`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ refresh_token }),
    });
    assert.equal(refused.status, 401);
  });

  test('it fits a phone without scrolling sideways', async () => {
    await page.setViewportSize({ width: 360, height: 740 });
    const [wide, seen] = await page.evaluate<[number, number]>(
      '[document.documentElement.scrollWidth, document.documentElement.clientWidth]',
    );
    assert.ok(wide <= seen, `${wide} > ${seen}`);
  });

  test('the browser complains of nothing, its policies included', () => {
    assert.deepEqual(complaints, []);
  });

  test('Ctrl-C stops both, and neither complains', async () => {
    assert.doesNotMatch(await example.stop(), /error/i);
    for (const address of [example.origin, example.service]) await assert.rejects(fetch(address));
  });
});

/** Runs the one command as a terminal does, and waits until it says that all is there. */
async function startExample(folder: string) {
  const [servicePort, examplePort] = [await findFreePort(), await findFreePort()];
  const child: ChildProcess = spawn('npm', ['run', 'example'], {
    cwd: join(import.meta.dirname, '../..'),
    env: {
      ...process.env,
      PORT: String(servicePort),
      EXAMPLE_PORT: String(examplePort),
      EXAMPLE_DATA_DIR: folder,
    },
    // A process group of its own is what a terminal sends Ctrl-C to.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  // The streams are closed by the last of the group that has them.
  const ended = once(child, 'close');
  let hasEnded = false;
  ended.then(() => {
    hasEnded = true;
  });
  const isReady = new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        if (output.includes('The example is ready')) resolve();
      });
    }
    ended.then(() => reject(new Error(`the example did not start:\n${output}`)));
    setTimeout(() => reject(new Error(`the example took too long:\n${output}`)), startLimitMs).unref();
  });
  const stop = async () => {
    if (!hasEnded && child.pid !== undefined) process.kill(-child.pid, 'SIGINT');
    await ended;
    return output;
  };
  await isReady.catch(async (error) => {
    await stop();
    throw error;
  });
  return { origin: `http://localhost:${examplePort}`, service: `http://localhost:${servicePort}`, stop };
}
