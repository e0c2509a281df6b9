import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** Gives the library of argon2, which a thread loads with the first hash that needs it: most installations have none. */
export function loadArgon2(): typeof import('@node-rs/argon2') {
  return require('@node-rs/argon2');
}
