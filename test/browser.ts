import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const executablePath = process.env.CHROMIUM_PATH ?? '/usr/bin/chromium';

/** Whether there is a browser here; without one the tests of pages are skipped, unless REQUIRE_CHROMIUM is set. */
export const hasChromium = existsSync(executablePath) || process.env.REQUIRE_CHROMIUM === '1';

/** Starts a headless Chromium that talks to nobody but the page that it is given. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
    ],
  });
}
