import { type Keyring, seal, unseal } from '../crypto/secrets.ts';
import type { EphemeralStore } from './store.ts';

/**
 * Keeps the payloads of a store sealed, each bound to its key, its digest and its end: whoever can write to Redis can
 * neither make a proof nor move, change or prolong one. What was not sealed here is as good as absent.
 */
export function sealEntries(
  store: EphemeralStore,
  keyring: Keyring,
  onForeignEntry: (error: unknown) => void,
): EphemeralStore {
  function open(sealed: string | undefined, key: string, digests: readonly string[], nowMs: number) {
    let failure: unknown;
    for (const digest of sealed === undefined ? [] : digests) {
      try {
        const { payload, expiresAtMs } = JSON.parse(unseal(keyring, sealed ?? '', sealContext(key, digest)));
        return expiresAtMs > nowMs ? (payload as string) : undefined;
      } catch (error) {
        failure = error;
      }
    }
    if (failure !== undefined) onForeignEntry(failure);
    return undefined;
  }

  return {
    ...store,
    put(key, entry, nowMs) {
      const { payload, digest, expiresAtMs } = entry;
      const sealed = seal(keyring, JSON.stringify({ payload, expiresAtMs }), sealContext(key, digest));
      return store.put(key, { ...entry, payload: sealed }, nowMs);
    },
    peek: async (key, digest, nowMs) => open(await store.peek(key, digest, nowMs), key, [digest], nowMs),
    take: async (key, digests, nowMs) => open(await store.take(key, digests, nowMs), key, digests, nowMs),
  };
}

function sealContext(key: string, digest: string): string {
  return `short-lived-entry/${key}/${digest}`;
}
