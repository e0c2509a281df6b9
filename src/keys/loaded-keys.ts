import { setTimeout as sleep } from 'node:timers/promises';
import type { CryptoKey } from 'jose';
import type { SigningKeys } from '../crypto/access-token.ts';
import { idPattern } from '../crypto/ids.ts';
import type { Keyring } from '../crypto/secrets.ts';
import { importPublicKey, openPrivateKey, type PublicJwk } from '../crypto/signing-key.ts';
import type { Db } from '../db/schema.ts';
import { answerWithin } from '../deadline.ts';
import { AppError } from '../errors.ts';
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
  /** Undefined where the active key cannot be opened here and no earlier one is left to sign with. */
  signer: Signer | undefined;
  verifiers: ReadonlyMap<string, CryptoKey>;
  publicJwks: readonly PublicJwk[];
};

// Keys older than this are read again while requests go on with them, so that under load nobody waits.
const freshForMs = 500;
// Keys older than this are read again before they are used: within this time every instance, also one that had
// nothing to do, knows of a rotation or a revocation elsewhere.
const staleAfterMs = 1_000;
// The wait for that at most. A database that is away must not take verification with it: whoever asks next looks
// into the database anyway, and nothing that was read before is kept for longer than seconds.
const staleWaitMs = 500;
const waitAgainAfterMs = 1_000;
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
  let freshening: Promise<void> | undefined;
  let waitFromMs = Number.NEGATIVE_INFINITY;
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

  /** Reads the keys again, once for all who find them old meanwhile. Never rejects: what is in memory goes on working. */
  function loadInBackground(): Promise<void> {
    freshening ??= load()
      .catch((error: unknown) => {
        waitFromMs = performance.now() + waitAgainAfterMs;
        onFailure(error);
      })
      .finally(() => {
        freshening = undefined;
      });
    return freshening;
  }

  async function waitBriefly(loading: Promise<void>): Promise<void> {
    try {
      await answerWithin(staleWaitMs, loading);
    } catch {
      waitFromMs = performance.now() + waitAgainAfterMs;
    }
  }

  function freshen(): Promise<void> | undefined {
    // A clock that was set back must not keep the keys as they are.
    const ageMs = Math.abs(now() - freshAtMs);
    if (ageMs < freshForMs) return undefined;
    const loading = loadInBackground();
    return ageMs < staleAfterMs || performance.now() < waitFromMs ? undefined : waitBriefly(loading);
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
    freshen,
    active() {
      if (keys.signer === undefined) throw new AppError('temporarily_unavailable');
      return keys.signer;
    },
    find: (kid) => keys.verifiers.get(kid),
    async findAnew(kid) {
      const known = keys.verifiers.get(kid);
      if (known !== undefined) return known;
      if (!idForm.test(kid)) return undefined;
      await loadForLookUp();
      return keys.verifiers.get(kid);
    },
    publicJwks: () => keys.publicJwks,
    reload: load,
  };
}

async function openKeys(
  parts: Pick<Parts, 'keyring' | 'onFailure'>,
  records: readonly SigningKeyRecord[],
  before: KeySet | undefined,
): Promise<KeySet> {
  const signer = await openSigner(parts, records, before);
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
  before: KeySet | undefined,
): Promise<Signer | undefined> {
  const active = records.find((record) => record.state === 'active');
  if (active === undefined) throw new Error('there is no active signing key');
  // The key that is open already is not opened again: an instance with a newer SECRET_KEY may have sealed it anew.
  if (before?.signer?.kid === active.kid) return before.signer;
  try {
    return { kid: active.kid, privateKey: await openPrivateKey(keyring, active) };
  } catch (error) {
    if (before === undefined) throw error;
    // Sealed under a SECRET_KEY that this instance was not given yet. It still has to verify what the others sign, and
    // may itself sign with the key before, as long as that verifies. After a revocation it does not, and what is in
    // memory must not go on for want of another: then this instance signs nothing.
    onFailure(error);
    return records.some(({ kid }) => kid === before.signer?.kid) ? before.signer : undefined;
  }
}
