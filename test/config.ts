import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { loadConfig } from '../src/config.ts';
import { ConfigError } from '../src/config-error.ts';

/** A folder that is removed when the tests of the file are over. */
export const configFolder = mkdtempSync(join(tmpdir(), 'latchkey-config-'));
after(() => rmSync(configFolder, { recursive: true, force: true }));

/** What production requires, and nothing else. */
export const production = {
  NODE_ENV: 'production',
  SECRET_KEY: newSecret(),
  PUBLIC_URL: 'https://auth.example.com',
  SMTP_URL: 'smtp://mail.example.com',
  MAIL_FROM: 'Example <no-reply@example.com>',
};

/** The error that a configuration is refused with. */
export function catchConfigError(raw: Record<string, string | undefined>): ConfigError | undefined {
  try {
    loadConfig(raw);
    return undefined;
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
}

/** What a configuration is refused for; nothing where it is accepted. */
export function problemsOf(raw: Record<string, string | undefined>): readonly string[] {
  return catchConfigError({ DATA_DIR: join(configFolder, 'data'), ...raw })?.problems ?? [];
}

/** Writes a file for a variable named `<NAME>_FILE` and returns its path. */
export function writeSecretFile(content: string): string {
  const path = join(configFolder, randomBytes(8).toString('hex'));
  writeFileSync(path, content);
  return path;
}

/** A secret like those of a random generator. */
export function newSecret(): string {
  return randomBytes(48).toString('base64url');
}
