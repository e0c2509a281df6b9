import assert from 'node:assert/strict';
import { createHmac, createPublicKey } from 'node:crypto';
import {
  type CryptoKey,
  decodeJwt,
  decodeProtectedHeader,
  EncryptJWT,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JSONWebKeySet,
  type JWTPayload,
} from 'jose';
import { call } from './client.ts';
import type { System } from './system.ts';

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** A header, or claims, as a forger may write them. */
export type Header = Record<string, unknown>;
/** A token taken apart. */
export type Parts = { header: Header; payload: JWTPayload; text: [string, string, string]; signature: Buffer };

/** Encodes a part of a token (RFC 7515 section 3). */
export function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

/** Takes a token apart without judging it. */
export function takeApart(token: string): Parts {
  const [header = '', payload = '', signature = ''] = token.split('.');
  return {
    header: decodeProtectedHeader(token) as Header,
    payload: decodeJwt(token),
    text: [header, payload, signature],
    signature: Buffer.from(signature, 'base64url'),
  };
}

/** Signs whatever header and payload are given. */
export async function signEs256(key: CryptoKey, header: Header, payload: unknown): Promise<string> {
  const input = `${encode(header)}.${encode(payload)}`;
  const signature = await crypto.subtle.sign({ name: 'ECDSA', hash: 'SHA-256' }, key, Buffer.from(input));
  return `${input}.${Buffer.from(signature).toString('base64url')}`;
}

/** Signs another header or payload with the service's own key: what only a confused service would do. */
export function resign(system: System, parts: Parts, header: Header = {}, payload: Header = {}): Promise<string> {
  const { privateKey } = system.deps.signingKeys.active();
  return signEs256(privateKey, { ...parts.header, ...header }, { ...parts.payload, ...payload });
}

function signHs256(secret: string | Buffer, header: Header, payload: unknown): string {
  const input = `${encode(header)}.${encode(payload)}`;
  return `${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`;
}

/** The DER form of a signature (RFC 3279 section 2.2.3), which JWS does not use. */
function toDer(signature: Buffer): Buffer {
  const integers = [signature.subarray(0, 32), signature.subarray(32)].map((bytes) => {
    const unsigned = (bytes[0] ?? 0) > 127 ? Buffer.concat([Buffer.of(0), bytes]) : bytes;
    return Buffer.concat([Buffer.of(2, unsigned.length), unsigned]);
  });
  const body = Buffer.concat(integers);
  return Buffer.concat([Buffer.of(0x30, body.length), body]);
}

/** Tokens by what is wrong with them. */
export type Tokens = Record<string, string>;

/** Forgeries by somebody who has the public keys and a genuine token, and no private key. */
export async function forgeWithoutKey(system: System, parts: Parts, elsewhere: string): Promise<Tokens> {
  const jwks = (await call(system, { method: 'GET', path: '/.well-known/jwks.json' })).body as JSONWebKeySet;
  return {
    ...forgeHs256(jwks, parts),
    ...forgeAlgorithms(parts),
    ...(await forgeKeys(jwks, parts, elsewhere)),
    ...forgeSignatures(parts),
    ...forgeContents(parts),
  };
}

function findJwk({ keys }: JSONWebKeySet, { header }: Parts): JSONWebKeySet['keys'][number] {
  const jwk = keys.find((key) => key.kid === header.kid);
  assert.ok(jwk);
  return jwk;
}

/** The public key as the secret of an HMAC, in every form that a confused verifier might hold it. */
function forgeHs256(jwks: JSONWebKeySet, parts: Parts): Tokens {
  const { header, payload } = parts;
  const jwk = findJwk(jwks, parts);
  const publicKey = createPublicKey({ key: { ...jwk } as never, format: 'jwk' });
  const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const der = publicKey.export({ type: 'spki', format: 'der' });
  const point = Buffer.concat([jwk.x ?? '', jwk.y ?? ''].map((part) => Buffer.from(part, 'base64url')));
  const { kid: _kid, alg: _alg, use: _use, ...bareJwk } = jwk;
  const secrets: Record<string, string | Buffer> = {
    PEM: pem,
    'PEM without its last line end': pem.trim(),
    DER: der,
    'base64 of DER': der.toString('base64'),
    'the JWK as served': JSON.stringify(jwk),
    'the bare JWK': JSON.stringify(bareJwk),
    'the JWK Set': JSON.stringify(jwks),
    'the raw point': point,
    'the uncompressed point': Buffer.concat([Buffer.of(4), point]),
    'its x coordinate': jwk.x ?? '',
    'an empty secret': '',
    kid: String(header.kid),
  };
  const tokens: Tokens = {};
  for (const [name, secret] of Object.entries(secrets)) {
    tokens[`HS256 over the public key: ${name}`] = signHs256(secret, { ...header, alg: 'HS256' }, payload);
  }
  return tokens;
}

function forgeAlgorithms({ header, text }: Parts): Tokens {
  const tokens: Tokens = {};
  for (const alg of ['none', 'None', 'NONE', 'nOnE', '', null, undefined, ['none'], 'HS256', 'ES384', 'es256']) {
    const unsigned = `${encode({ ...header, alg })}.${text[1]}.`;
    tokens[`alg ${JSON.stringify(alg)} without a signature`] = unsigned;
    tokens[`alg ${JSON.stringify(alg)} with the signature of a genuine token`] = unsigned + text[2];
  }
  return tokens;
}

/** Tokens that bring or name a key of their own, and one that is encrypted to ours. */
async function forgeKeys(jwks: JSONWebKeySet, parts: Parts, elsewhere: string): Promise<Tokens> {
  const { header, payload } = parts;
  const { alg: _alg, use: _use, ...jwk } = findJwk(jwks, parts);
  const foreign = await generateKeyPair('ES256', { extractable: true });
  const foreignJwk = await exportJWK(foreign.publicKey);
  const headers: Record<string, Header> = {
    'our kid': {},
    'a jwk header': { jwk: foreignJwk },
    'a jwk header without kid': { jwk: foreignJwk, kid: undefined },
    'a jwk header and a kid of its own': { jwk: { ...foreignJwk, kid: 'mine' }, kid: 'mine' },
    jku: { jku: elsewhere, kid: 'mine' },
    'jku and our kid': { jku: elsewhere },
    x5u: { x5u: elsewhere },
    x5c: { x5c: [foreignJwk.x] },
  };
  const tokens: Tokens = {};
  for (const [name, extra] of Object.entries(headers)) {
    tokens[`a foreign key pair with ${name}`] = await signEs256(foreign.privateKey, { ...header, ...extra }, payload);
  }
  tokens['a JWE to our public key'] = await new EncryptJWT(payload)
    .setProtectedHeader({ alg: 'ECDH-ES', enc: 'A256GCM', typ: 'at+jwt', kid: String(header.kid) })
    .encrypt(await importJWK(jwk, 'ECDH-ES'));
  return tokens;
}

function forgeSignatures({ text, signature }: Parts): Tokens {
  const unsigned = `${text[0]}.${text[1]}`;
  const flip = (index: number) => Buffer.from(signature.map((byte, at) => (at === index ? byte ^ 1 : byte)));
  const signatures: Record<string, Buffer> = {
    'in DER': toDer(signature),
    'of zeros': Buffer.alloc(64),
    'without its last byte': signature.subarray(0, 63),
    'of its first half': signature.subarray(0, 32),
    'with a byte more': Buffer.concat([signature, Buffer.of(0)]),
    'with its halves exchanged': Buffer.concat([signature.subarray(32), signature.subarray(0, 32)]),
    'with its first byte changed': flip(0),
    'with a byte in the middle changed': flip(32),
    'with its last byte changed': flip(63),
  };
  const tokens: Tokens = { 'no signature': unsigned, 'an empty signature': `${unsigned}.` };
  for (const [name, bytes] of Object.entries(signatures)) {
    tokens[`a signature ${name}`] = `${unsigned}.${bytes.toString('base64url')}`;
  }
  tokens['a signature without its last character'] = `${unsigned}.${text[2].slice(0, -1)}`;
  return { ...tokens, ...respellSignature(text) };
}

/**
 * Other spellings of the same 64 bytes, which a lenient decoder would read: the last of 86 characters carries two
 * bits, and its other four must be zero (RFC 4648 section 3.5); padding is left out (RFC 7515 section 2).
 */
function respellSignature(text: Parts['text']): Tokens {
  const genuine = text.join('.');
  const last = alphabet.indexOf(genuine.slice(-1));
  assert.equal(last & 15, 0);
  const tokens: Tokens = { 'a padded signature': `${genuine}==`, 'a half padded signature': `${genuine}=` };
  for (let unused = 1; unused < 16; unused += 1) {
    const respelt = genuine.slice(0, -1) + alphabet.charAt(last + unused);
    assert.deepEqual(takeApart(respelt).signature, takeApart(genuine).signature);
    tokens[`a signature with the unused bits ${unused.toString(2).padStart(4, '0')}`] = respelt;
  }
  return tokens;
}

function forgeContents({ header, payload, text }: Parts): Tokens {
  const genuine = text.join('.');
  return {
    'a payload of more permissions': [text[0], encode({ ...payload, permissions: ['*'] }), text[2]].join('.'),
    'a payload without exp': [text[0], encode({ ...payload, exp: undefined }), text[2]].join('.'),
    'a header with another member': [encode({ ...header, cty: 'JWT' }), text[1], text[2]].join('.'),
    'the genuine token twice': `${genuine}.${genuine}`,
    'a token of 9,000 characters': genuine.padEnd(9_000, 'A'),
  };
}
