import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import type { TestContext } from 'node:test';
import type { HashScheme } from '../src/crypto/hash-scheme.ts';
import { createPasswordHasher, type PasswordHasher } from '../src/crypto/passwords.ts';
import { createKeyring, type Keyring } from '../src/crypto/secrets.ts';

export const cheap: HashScheme = { name: 'bcrypt', cost: 4 };
export const argon2id: HashScheme = { name: 'argon2id' };

// What a check can answer besides that the password is wrong.
export const current = { matches: true, outdated: false, unreadable: false };
export const replaceable = { matches: true, outdated: true, unreadable: false };
export const unreadable = { matches: false, outdated: false, unreadable: true };

export function newSecret(): string {
  return randomBytes(48).toString('base64');
}

type Options = { keyring?: Keyring; scheme?: HashScheme; threads?: number; maxWaiting?: number };

/** Starts a hasher that ends with the test. */
export function startHasher(t: TestContext, options: Options = {}): PasswordHasher {
  const keyring = options.keyring ?? createKeyring([newSecret()]);
  const hasher = createPasswordHasher({ scheme: cheap, threads: 1, maxWaiting: 50, ...options, keyring });
  t.after(() => hasher.close());
  return hasher;
}

export async function assertMismatch(hasher: PasswordHasher, password: string, stored: string | null): Promise<void> {
  assert.equal((await hasher.verify(password, stored)).matches, false, JSON.stringify(password));
}
