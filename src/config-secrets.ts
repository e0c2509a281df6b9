import { existsSync, linkSync, mkdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, describeFileError } from './config-error.ts';
import { randomToken } from './crypto/secrets.ts';

const minSecretBytes = 32;
const minDistinctCharacters = 10;
// Words that turn up in examples and never in 32 random bytes.
const exampleSecretPattern = /change.?me|example|secret|password|latchkey|your.?key|0123456789abcdef/i;

/** Says of each value of SECRET_KEY what is wrong with it, without repeating it. */
export function findSecretProblems(secrets: readonly string[]): string[] {
  const faults = secrets.flatMap((secret, index) => {
    const fault = findSecretFault(secret);
    return fault === undefined ? [] : [`SECRET_KEY: value ${index + 1} ${fault}`];
  });
  return new Set(secrets).size === secrets.length ? faults : [...faults, 'SECRET_KEY names the same value twice'];
}

function findSecretFault(secret: string): string | undefined {
  if (Buffer.byteLength(secret) < minSecretBytes) return `is shorter than ${minSecretBytes} bytes`;
  if (new Set(secret).size < minDistinctCharacters) return 'repeats too few characters to be random';
  if (exampleSecretPattern.test(secret)) return 'looks like an example; make one with: openssl rand -base64 48';
  return undefined;
}

function developmentSecretPath(dataDir: string): string {
  return join(dataDir, 'secret.key');
}

/** Reads the secret of a development installation, or returns undefined where none was made yet. Throws ConfigError. */
export function findDevelopmentSecret(dataDir: string): string | undefined {
  const path = developmentSecretPath(dataDir);
  return existsSync(path) ? withFile(path, () => readFileSync(path, 'utf8').trim()) : undefined;
}

/** In development a missing key is made once and kept, so that sessions survive a restart. Throws ConfigError. */
export function readOrMakeDevelopmentSecret(dataDir: string): string {
  const path = developmentSecretPath(dataDir);
  const secret = withFile(path, () => {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    if (!existsSync(path)) makeSecretFile(path);
    return readFileSync(path, 'utf8').trim();
  });
  const fault = findSecretFault(secret);
  if (fault === undefined) return secret;
  throw new ConfigError([`the secret in ${path} ${fault}; put the old file back, or delete it together with the data`]);
}

/** A crash leaves no half file, and of two processes that start together one makes it and both read the same. */
function makeSecretFile(path: string): void {
  const draft = `${path}.${randomToken()}`;
  writeFileSync(draft, `${randomToken()}${randomToken()}\n`, { mode: 0o600, flag: 'wx', flush: true });
  try {
    linkSync(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    unlinkSync(draft);
  }
}

function withFile<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new ConfigError([
      `DATA_DIR: ${path} cannot be read or made: ${describeFileError(error)}. Mend that, or set SECRET_KEY`,
    ]);
  }
}
