import { mkdirSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { registerUser } from '../test/accounts.ts';
import { launchChromium } from '../test/browser.ts';
import { startSystem } from '../test/system.ts';

/** `npm run pictures`: takes the pictures of the README from the real pages with Chromium. */
const folder = 'docs/images';
mkdirSync(folder, { recursive: true });
const system = await startSystem('sqlite+memory', { NODE_ENV: 'development', PUBLIC_URL: 'http://localhost:8000' });
await registerUser(system, { email: 'ada@example.com' });
await system.app.listen({ host: '127.0.0.1', port: 0 });
const origin = `http://127.0.0.1:${(system.app.server.address() as AddressInfo).port}`;
const browser = await launchChromium();
for (const [name, path, height] of [
  ['docs', '/docs', 1100],
  ['mailbox', '/dev/mailbox', 420],
] as const) {
  const page = await browser.newPage({ viewport: { width: 1100, height } });
  await page.goto(origin + path, { waitUntil: 'networkidle' });
  await page.screenshot({ path: `${folder}/${name}.png` });
  await page.close();
}
await browser.close();
await system.close();
