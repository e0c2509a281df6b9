import type { CryptoKey, JWK } from 'jose';
import { exportJWK } from 'jose/key/export';
import { generateKeyPair } from 'jose/key/generate/keypair';
import { importJWK } from 'jose/key/import';
import { newId } from './ids.ts';
import { type Keyring, seal, sealedUnder, unseal } from './secrets.ts';

/** The one signature algorithm: ECDSA on P-256 with SHA-256 (RFC 7518 section 3.4). */
export const signingAlgorithm = 'ES256';

/** A public key as the JWKS shows it (RFC 7517). */
export type PublicJwk = { kty: 'EC'; crv: 'P-256'; x: string; y: string; kid: string; alg: 'ES256'; use: 'sig' };

/** A key pair in the form in which it is stored: the private part sealed. */
export type StoredSigningKey = { kid: string; publicJwk: PublicJwk; sealedPrivateJwk: string };

/** Makes a key pair and seals its private part under the newest secret, bound to its key id. */
export async function generateSigningKey(keyring: Keyring): Promise<StoredSigningKey> {
  const kid = newId();
  const pair = await generateKeyPair(signingAlgorithm, { extractable: true });
  const { x, y, d } = await exportJWK(pair.privateKey);
  if (x === undefined || y === undefined || d === undefined) throw new Error('the generated key is incomplete');
  const publicJwk: PublicJwk = { kty: 'EC', crv: 'P-256', x, y, kid, alg: signingAlgorithm, use: 'sig' };
  const sealedPrivateJwk = seal(keyring, JSON.stringify({ kty: 'EC', crv: 'P-256', x, y, d }), sealContext(kid));
  return { kid, publicJwk, sealedPrivateJwk };
}

/** Opens the private part of a stored key for signing. It cannot be exported again. */
export async function openPrivateKey(keyring: Keyring, key: StoredSigningKey): Promise<CryptoKey> {
  const jwk = JSON.parse(unseal(keyring, key.sealedPrivateJwk, sealContext(key.kid))) as JWK;
  return asCryptoKey(await importJWK(jwk, signingAlgorithm, { extractable: false }));
}

/** Says whether the secret that the private part is sealed under is configured. */
export function canOpen(keyring: Keyring, key: StoredSigningKey): boolean {
  const fingerprint = sealedUnder(key.sealedPrivateJwk);
  return keyring.all.some((root) => root.fingerprint === fingerprint);
}

/** Says whether the private part is sealed under the newest secret. */
export function isSealedUnderCurrent(keyring: Keyring, key: StoredSigningKey): boolean {
  return sealedUnder(key.sealedPrivateJwk) === keyring.current.fingerprint;
}

/** Seals the private part anew under the newest secret, so that the older one can be taken away. */
export function resealSigningKey(keyring: Keyring, key: StoredSigningKey): string {
  return seal(keyring, unseal(keyring, key.sealedPrivateJwk, sealContext(key.kid)), sealContext(key.kid));
}

/** Imports the public part of a stored key for verifying. */
export async function importPublicKey(jwk: PublicJwk): Promise<CryptoKey> {
  return asCryptoKey(await importJWK(jwk, signingAlgorithm));
}

function asCryptoKey(key: CryptoKey | Uint8Array): CryptoKey {
  if (key instanceof Uint8Array) throw new Error('an elliptic-curve key was expected');
  return key;
}

function sealContext(kid: string): string {
  return `signing_keys/${kid}`;
}
