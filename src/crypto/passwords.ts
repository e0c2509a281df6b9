import { createHmac } from 'node:crypto';
import { createHashPool, type HashObserver } from './hash-pool.ts';
import { argon2Parameters, type HashScheme } from './hash-scheme.ts';
import type { Keyring, SecretRoot } from './secrets.ts';
import { type ParsedHash, parseStoredHash, ownTag as tag } from './stored-hash.ts';
import { makeUnmatchedHash } from './unmatched-hash.ts';

/** What a check of a password found. */
export type PasswordCheck = {
  matches: boolean;
  /** True when the stored hash is not what `hash` makes today and should be replaced while the password is known. */
  outdated: boolean;
  /** True when the stored hash was made under a secret that is not configured, or has no known format. */
  unreadable: boolean;
};

/** Hashes and checks passwords in worker threads, never on the event loop. */
export type PasswordHasher = {
  /** Returns a tagged hash to store. */
  hash(password: string, signal?: AbortSignal): Promise<string>;
  /** Checks a password. An account without a hash, or no account, costs the same time and never matches. */
  verify(password: string, stored: string | null, signal?: AbortSignal): Promise<PasswordCheck>;
  waiting(): number;
  close(): Promise<void>;
};

type HasherOptions = {
  keyring: Keyring;
  scheme: HashScheme;
  threads: number;
  maxWaiting: number;
  niceness?: number;
  observer?: HashObserver;
};

/** Creates the hasher and its pool. */
export function createPasswordHasher(options: HasherOptions): PasswordHasher {
  const pool = createHashPool(options);
  // What is checked where there is no account.
  const unmatched = `${tag}:${options.keyring.current.fingerprint}:${makeUnmatchedHash(options.scheme)}`;

  return {
    async hash(password, signal) {
      const root = options.keyring.current;
      const input = preHash(root, password);
      return `${tag}:${root.fingerprint}:${await pool.run({ kind: 'hash', scheme: options.scheme, input }, signal)}`;
    },

    async verify(password, stored, signal) {
      const own = stored === null ? undefined : parseStoredHash(options.keyring, stored);
      // What cannot be checked costs what a check costs: otherwise its time would tell the account apart.
      const { root, hash } = own ?? requireParsed(options.keyring, unmatched);
      const input = root === undefined ? password : preHash(root, password);
      const { scheme } = options;
      const wanted = scheme.name === 'bcrypt' ? { bcryptCost: scheme.cost } : {};
      const matches = (await pool.run({ kind: 'verify', encoded: hash, input, ...wanted }, signal)) === true;
      if (own === undefined) return { matches: false, outdated: false, unreadable: stored !== null };
      return { matches, outdated: !isCurrent(options, root, hash), unreadable: false };
    },

    waiting: pool.waiting,
    close: pool.close,
  };
}

/**
 * The keyed pre-hash: base64 of HMAC-SHA-384 under the pepper. Its 64 characters hold the whole password
 * within bcrypt's 72 bytes and hold no NUL, and a stolen table cannot be attacked without SECRET_KEY.
 */
function preHash(root: SecretRoot, password: string): string {
  return createHmac('sha384', root.key('password-pepper')).update(password.normalize('NFKC')).digest('base64');
}

function requireParsed(keyring: Keyring, stored: string): ParsedHash {
  const parsed = parseStoredHash(keyring, stored);
  if (parsed === undefined) throw new Error('a hash that was just made cannot be read');
  return parsed;
}

function isCurrent(options: HasherOptions, root: SecretRoot | undefined, hash: string): boolean {
  if (root?.fingerprint !== options.keyring.current.fingerprint) return false;
  if (options.scheme.name === 'bcrypt') {
    return hash.startsWith(`$2b$${String(options.scheme.cost).padStart(2, '0')}$`);
  }
  const { memoryCost, timeCost, parallelism } = argon2Parameters;
  return hash.startsWith(`$argon2id$v=19$m=${memoryCost},t=${timeCost},p=${parallelism}$`);
}
