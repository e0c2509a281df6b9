import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { goodPassword, refresh, registerUser, type TestUser } from '../accounts.ts';
import { hasChromium, launchChromium } from '../browser.ts';
import { type System, startSystem } from '../system.ts';
import { buildClient } from './built.ts';
import { countSeen, type Doorway, listen, listGenerations, openDoorway, unavailable } from './doorway.ts';

const refreshing = 'POST /auth/refresh';
const ttlSeconds = 600;

/** What the page does with the client; it keeps what the client tells it. */
const script = `
import { createClient, localStorageTokens, memoryTokens } from './client/index.js';
const { service, storage } = Object.fromEntries(new URLSearchParams(location.search));
const client = createClient({ baseUrl: service, storage: storage === 'memory' ? memoryTokens() : localStorageTokens() });
const told = [];
client.onSignedIn(() => told.push('signed_in'));
client.onSignedOut((reason) => told.push(reason));
client.onStorageFailed((error) => told.push(error.code));
globalThis.told = told;
globalThis.act = (name, ...args) =>
  client[name](...args).then((value) => ({ value }), (error) => ({ code: error.code ?? String(error) }));
globalThis.isReady = true;
`;

describe('the client in a browser', { skip: hasChromium ? false : 'there is no Chromium here' }, () => {
  let browser: Browser;
  let system: System;
  let doorway: Doorway;
  let pages: Awaited<ReturnType<typeof servePage>>;
  let context: BrowserContext;
  let user: TestUser;

  before(async () => {
    pages = await servePage();
    system = await startSystem('sqlite+memory', {
      ACCESS_TOKEN_TTL_SECONDS: String(ttlSeconds),
      CORS_ORIGINS: pages.origin,
    });
    doorway = await openDoorway(await listen(system));
    browser = await launchChromium();
  });

  after(async () => {
    await browser?.close();
    await doorway?.close();
    await system?.close();
    await pages?.close();
  });

  beforeEach(async () => {
    doorway.treat(() => 'serve');
    doorway.seen.length = 0;
    user = await registerUser(system);
    context = await browser.newContext();
  });
  afterEach(() => context.close());

  /** Opens a tab of the application. */
  async function openTab(storage = 'local', prepare?: () => void): Promise<Page> {
    const page = await context.newPage();
    if (prepare !== undefined) await page.addInitScript(prepare);
    await page.goto(`${pages.origin}/?${new URLSearchParams({ service: doorway.origin, storage })}`);
    await page.waitForFunction('globalThis.isReady');
    return page;
  }

  type Outcome = { value?: { id: string; email: string }; code?: string };
  /** Calls a function of the client in a tab, several times at once where it is said. */
  function act(page: Page, name: string, args: unknown[] = [], times = 1): Promise<Outcome[]> {
    const calls = `Promise.all(Array.from({ length: ${times} }, () => act('${name}', ...${JSON.stringify(args)})))`;
    return page.evaluate(calls);
  }
  const logIn = (page: Page) => act(page, 'logIn', [{ email: user.email, password: goodPassword }]);
  const toldTo = (page: Page) => page.evaluate<string[]>('told');
  // The page's clock is the machine's, so for the page these tokens are fresh until the service says otherwise.
  const expire = () => system.clock.advanceSeconds(ttlSeconds);
  const newest = async () => Math.max(...(await listGenerations(system, user.email)));

  test('two tabs with an expired token make one refresh between them', async () => {
    const [first, second] = [await openTab(), await openTab()];
    await logIn(first);
    expire();
    const outcomes = (await Promise.all([act(first, 'getMe', [], 5), act(second, 'getMe', [], 5)])).flat();
    assert.deepEqual(new Set(outcomes.map(({ value }) => value?.email)), new Set([user.email]));
    assert.equal(countSeen(doorway, refreshing), 1);
    assert.equal(await newest(), 1);
  });

  test('two tabs without Web Locks stay signed in', async () => {
    const hideLocks = () => Object.defineProperty(navigator, 'locks', { value: undefined });
    const [first, second] = [await openTab('local', hideLocks), await openTab('local', hideLocks)];
    await logIn(first);
    for (let round = 1; round <= 5; round += 1) {
      expire();
      const outcomes = (await Promise.all([act(first, 'getMe', [], 3), act(second, 'getMe', [], 3)])).flat();
      assert.equal(outcomes.filter(({ value }) => value?.email === user.email).length, 6);
      assert.equal(await newest(), round);
    }
    assert.ok(countSeen(doorway, refreshing) <= 10, 'one a tab at most');
  });

  test('a tab that never gives its lock back does not keep the others from working', async () => {
    // A frozen tab, and the wait for it at a tenth of its length.
    const hurry = () => {
      const original = AbortSignal.timeout.bind(AbortSignal);
      AbortSignal.timeout = (ms) => original(ms === 10_000 ? 1_000 : ms);
    };
    const [frozen, tab] = [await openTab(), await openTab('local', hurry)];
    await logIn(tab);
    await frozen.evaluate('void navigator.locks.request("latchkey:refresh", () => new Promise(() => {}))');
    expire();
    const [outcome] = await act(tab, 'getMe');
    assert.equal(outcome?.value?.email, user.email);
  });

  test('an answer to a refresh that is lost on the way strands no tab', async () => {
    const [first, second] = [await openTab(), await openTab()];
    await logIn(first);
    expire();
    doorway.treat((request) => {
      return request === refreshing && countSeen(doorway, refreshing) === 1 ? 'lose_answer' : 'serve';
    });
    const outcomes = (await Promise.all([act(first, 'getMe'), act(second, 'getMe')])).flat();
    assert.deepEqual(
      outcomes.map(({ value }) => value?.email),
      [user.email, user.email],
    );
    assert.equal(await newest(), 1);
    assert.ok(countSeen(doorway, refreshing) >= 2);
  });

  test('who signs out in one tab is signed out in the other', async () => {
    const [first, second] = [await openTab(), await openTab()];
    await logIn(first);
    await second.waitForFunction('told.includes("signed_in")');
    assert.equal((await act(second, 'getMe'))[0]?.value?.email, user.email);
    await act(first, 'logOut');
    await second.waitForFunction('told.includes("logout")');
    assert.equal((await act(second, 'getMe'))[0]?.code, 'signed_out');
    assert.deepEqual(await toldTo(first), ['signed_in', 'logout']);
    assert.equal(await first.evaluate('localStorage.length'), 0);
  });

  test('a reused token is reported by its code and signs out both tabs', async () => {
    const [first, second] = [await openTab(), await openTab()];
    await logIn(first);
    await second.waitForFunction('told.includes("signed_in")');
    const stolen = await first.evaluate<string>('JSON.parse(localStorage.latchkey).refresh_token');
    const { body } = await refresh(system, stolen);
    await refresh(system, body.refresh_token);
    expire();
    assert.equal((await act(first, 'getMe'))[0]?.code, 'refresh_token_reused');
    await second.waitForFunction('told.includes("refresh_token_reused")');
  });

  test('a service that cannot serve signs nobody out', async () => {
    const tab = await openTab();
    await logIn(tab);
    expire();
    doorway.treat((request) => (request === refreshing ? unavailable : 'serve'));
    assert.equal((await act(tab, 'getMe', [{ timeoutMs: 200 }]))[0]?.code, 'timeout');
    doorway.treat(() => 'serve');
    assert.equal((await act(tab, 'getMe'))[0]?.value?.email, user.email);
    assert.deepEqual(await toldTo(tab), ['signed_in']);
  });

  test('a browser that stores nothing leaves the page usable', async () => {
    const block = () => {
      Storage.prototype.setItem = () => {
        throw new DOMException('full', 'QuotaExceededError');
      };
    };
    const tab = await openTab('local', block);
    await logIn(tab);
    expire();
    assert.equal((await act(tab, 'getMe'))[0]?.value?.email, user.email);
    assert.deepEqual(await toldTo(tab), ['storage_failed', 'signed_in', 'storage_failed']);
  });

  test('tokens in localStorage outlive a reload, and tokens in memory do not', async () => {
    for (const [storage, isSignedIn] of [['local', true] as const, ['memory', false] as const]) {
      const tab = await openTab(storage);
      await logIn(tab);
      await tab.reload();
      await tab.waitForFunction('globalThis.isReady');
      assert.deepEqual(await act(tab, 'isSignedIn'), [{ value: isSignedIn }]);
      await tab.evaluate('localStorage.clear()');
    }
  });

  test('two tabs with tokens in memory are two sessions, and neither sees the other', async () => {
    const [first, second] = [await openTab('memory'), await openTab('memory')];
    await logIn(first);
    await logIn(second);
    await act(first, 'logOut');
    assert.equal((await act(second, 'getMe'))[0]?.value?.email, user.email);
    assert.deepEqual(await toldTo(second), ['signed_in']);
    assert.equal(await first.evaluate('localStorage.length'), 0);
  });
});

/** Serves a page with the compiled client from an origin of its own, under a policy that allows its own scripts alone. */
async function servePage(): Promise<{ origin: string; close(): Promise<void> }> {
  const client = await buildClient();
  const policy = "default-src 'none'; script-src 'self'; connect-src http://127.0.0.1:*";
  const server: Server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://page');
    const isScript = pathname.endsWith('.js');
    const built = () => readFile(join(client.folder, basename(pathname)), 'utf8');
    const html = '<!doctype html><title>page</title><script type="module" src="/page.js"></script>';
    const body = pathname === '/page.js' ? script : isScript ? await built() : html;
    const type = isScript ? 'text/javascript' : 'text/html';
    response.writeHead(200, { 'content-type': type, 'content-security-policy': policy }).end(body);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      client.remove();
    },
  };
}
