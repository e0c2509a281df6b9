import { setTimeout as sleep } from 'node:timers/promises';
import type { CryptoKey } from 'jose';
import type { SigningKeys } from '../crypto/access-token.ts';
import { idPattern } from '../crypto/ids.ts';
import type { Keyring } from '../crypto/secrets.ts';
import { importPublicKey, openPrivateKey, type PublicJwk } from '../crypto/signing-key.ts';
import type { Db } from '../db/schema.ts';
import { listSigningKeys, type SigningKeyRecord } from './store.ts';

/** The signing keys in memory: JWKS and verification go on when the database is away. */
export type LoadedSigningKeys = SigningKeys & {
  /** What the JWKS shows: next, active and retired keys that are still valid. */
  publicJwks(): readonly PublicJwk[];
  /** Reads the keys again, so that a rotation here is known here before the next request. */
  reload(): Promise<void>;
};

type Signer = { kid: string; privateKey: CryptoKey };
type KeySet = {
  signer: Signer;
  verifiers: ReadonlyMap<string, CryptoKey>;
  publicJwks: readonly PublicJwk[];
};

// How old the keys in memory may be: within this time, and the request that notices, every instance knows of a
// rotation or a revocation elsewhere.
const freshForMs = 1_000;
// An unknown key id may be another instance's newest key or a forgery: it is looked up, but forgeries together
// cause no more reads than one in this time.
const lookUpEveryMs = 100;

const idForm = new RegExp(`^${idPattern}$`);

type Parts = { db: Db; keyring: Keyring; now: () => number; onFailure: (error: unknown) => void };

/** Holds the keys that `records` says and keeps them up to date while they are used. */
export async function holdSigningKeys(
  { db, keyring, now, onFailure }: Parts,
  records: readonly SigningKeyRecord[],
): Promise<LoadedSigningKeys> {
  let keys = await openKeys({ keyring, onFailure }, records, undefined);
  let freshAtMs = now();
  let lastLoad = { number: 0, startedAtMs: performance.now() };
  let shown = 0;
  let isFreshening = false;
  let lookUp: Promise<void> | undefined;

  async function load(): Promise<void> {
    const number = lastLoad.number + 1;
    lastLoad = { number, startedAtMs: performance.now() };
    const startedAtMs = now();
    const loaded = await openKeys({ keyring, onFailure }, await listSigningKeys(db), keys);
    // One that began later has seen more.
    if (number < shown) return;
    shown = number;
    keys = loaded;
    freshAtMs = startedAtMs;
  }

  /** Nobody waits for it: what is in memory goes on working, also while the database is away. */
  function freshen(): void {
    // A clock that was set back must not keep the keys as they are.
    if (isFreshening || Math.abs(now() - freshAtMs) < freshForMs) return;
    isFreshening = true;
    load()
      .catch(onFailure)
      .finally(() => {
        isFreshening = false;
      });
  }

  /** Loads once for all who ask meanwhile; it begins after the last of them came, so that nobody misses a commit. */
  function loadForLookUp(): Promise<void> {
    lookUp ??= (async () => {
      await sleep(Math.max(0, lastLoad.startedAtMs + lookUpEveryMs - performance.now()));
      lookUp = undefined;
      await load();
    })();
    return lookUp;
  }

  return {
    active() {
      freshen();
      return keys.signer;
    },
    find(kid) {
      freshen();
      return keys.verifiers.get(kid);
    },
    async findAnew(kid) {
      const known = keys.verifiers.get(kid);
      if (known !== undefined) return known;
      if (!idForm.test(kid)) return undefined;
      await loadForLookUp();
      return keys.verifiers.get(kid);
    },
    publicJwks() {
      freshen();
      return keys.publicJwks;
    },
    reload: load,
  };
}

async function openKeys(
  parts: Pick<Parts, 'keyring' | 'onFailure'>,
  records: readonly SigningKeyRecord[],
  before: KeySet | undefined,
): Promise<KeySet> {
  const signer = await openSigner(parts, records, before?.signer);
  const verifiers = records.map(
    async ({ kid, publicJwk }) => [kid, before?.verifiers.get(kid) ?? (await importPublicKey(publicJwk))] as const,
  );
  return {
    signer,
    verifiers: new Map(await Promise.all(verifiers)),
    publicJwks: records.map((record) => record.publicJwk),
  };
}

async function openSigner(
  { keyring, onFailure }: Pick<Parts, 'keyring' | 'onFailure'>,
  records: readonly SigningKeyRecord[],
  before: Signer | undefined,
): Promise<Signer> {
  const active = records.find((record) => record.state === 'active');
  if (active === undefined) throw new Error('there is no active signing key');
  // The key that is open already is not opened again: an instance with a newer SECRET_KEY may have sealed it anew.
  if (before?.kid === active.kid) return before;
  try {
    return { kid: active.kid, privateKey: await openPrivateKey(keyring, active) };
  } catch (error) {
    // Sealed under a SECRET_KEY that this instance was not given yet. It still has to verify what the others sign, and
    // may itself sign with the key before, as long as that verifies.
    if (before === undefined || records.every(({ kid }) => kid !== before.kid)) throw error;
    onFailure(error);
    return before;
  }
}
