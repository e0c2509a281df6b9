import type { CryptoKey, JWTPayload } from 'jose';
// By part: the whole library has four times as many files, and what is signed and verified here is one kind of token.
import * as errors from 'jose/errors';
import { SignJWT } from 'jose/jwt/sign';
import { jwtVerify } from 'jose/jwt/verify';
import { newId } from './ids.ts';
import { sha256 } from './secrets.ts';
import { signingAlgorithm } from './signing-key.ts';

/** RFC 9068 section 2.1: the type that keeps an access token from being taken for any other JWT, and back. */
const tokenType = 'at+jwt';
// RFC 9068 requires client_id. Latchkey has no registered clients: whoever logs in does so first-hand.
const clientId = 'latchkey';
const maxTokenLength = 8192;
// A signature of 64 bytes in its one canonical spelling (RFC 7515 section 2): the last of its 86 characters
// carries two bits, and decoders would ignore the other four.
const compactPattern = /^[\w-]+\.[\w-]+\.[\w-]{85}[AQgw]$/;
const cacheSize = 10_000;

/** What the caller of `sign` decides of a token. Times are seconds since the epoch. */
export type AccessTokenSubject = {
  userId: string;
  sessionId: string;
  authenticatedAtSeconds: number;
  roles: readonly string[];
  permissions: readonly string[];
};

/** What a verified token says. */
type AccessTokenClaims = { userId: string; sessionId: string; expiresAtSeconds: number };

/** The keys that sign and verify at this moment; `find` is an exact look-up by `kid`. */
export type SigningKeys = {
  /** Brings what is known up to date where it is too old to be used; there is nothing to wait for where it is not. */
  freshen(): Promise<void> | undefined;
  active(): { kid: string; privateKey: CryptoKey };
  find(kid: string): CryptoKey | undefined;
  /** Finds also a key that another instance made a moment ago. */
  findAnew(kid: string): Promise<CryptoKey | undefined>;
};

/** Mints and verifies access tokens in the profile of RFC 9068. */
export type AccessTokens = {
  ttlSeconds: number;
  sign(subject: AccessTokenSubject): Promise<string>;
  /** Returns undefined for everything that is not a valid access token of this service. */
  verify(token: string): Promise<AccessTokenClaims | undefined>;
};

type AccessTokenOptions = {
  issuer: string;
  audience: string;
  ttlSeconds: number;
  now: () => number;
  keys: SigningKeys;
  /** How many verified tokens are remembered. */
  maxVerified?: number;
};

/** Creates the signer and verifier. */
export function createAccessTokens(options: AccessTokenOptions): AccessTokens {
  // A client sends the same token with every request; its signature need only be checked once. The key
  // is checked again on every use, so that a revoked one stops at once, and so is the expiry.
  const verified = new Map<string, AccessTokenClaims & { kid: string }>();

  async function sign(subject: AccessTokenSubject): Promise<string> {
    await options.keys.freshen();
    const key = options.keys.active();
    const issuedAt = Math.floor(options.now() / 1000);
    const token = await new SignJWT({
      sid: subject.sessionId,
      client_id: clientId,
      auth_time: subject.authenticatedAtSeconds,
      roles: [...subject.roles],
      permissions: [...subject.permissions],
    })
      .setProtectedHeader({ alg: signingAlgorithm, typ: tokenType, kid: key.kid })
      .setIssuer(options.issuer)
      .setAudience(options.audience)
      .setSubject(subject.userId)
      .setIssuedAt(issuedAt)
      .setExpirationTime(issuedAt + options.ttlSeconds)
      .setJti(newId())
      .sign(key.privateKey);
    if (token.length > maxTokenLength) throw new Error(`the roles of user ${subject.userId} do not fit into a token`);
    return token;
  }

  async function verify(token: string): Promise<AccessTokenClaims | undefined> {
    if (token.length > maxTokenLength || !compactPattern.test(token)) return undefined;
    await options.keys.freshen();
    const cacheKey = sha256(token);
    const cached = verified.get(cacheKey);
    if (cached !== undefined) {
      const stillGood = cached.expiresAtSeconds * 1000 > options.now() && options.keys.find(cached.kid) !== undefined;
      verified.delete(cacheKey);
      if (!stillGood) return undefined;
      // Put back at the end, so that a full cache gives up what was not used for longest.
      verified.set(cacheKey, cached);
      return cached;
    }
    const checked = await checkSignature(token);
    if (checked !== undefined) remember(cacheKey, checked);
    return checked;
  }

  async function checkSignature(token: string): Promise<(AccessTokenClaims & { kid: string }) | undefined> {
    try {
      const { payload, protectedHeader } = await jwtVerify(
        token,
        async ({ kid }) => {
          const key = kid === undefined ? undefined : await options.keys.findAnew(kid);
          if (key === undefined) throw new errors.JWKSNoMatchingKey();
          return key;
        },
        {
          algorithms: [signingAlgorithm],
          typ: tokenType,
          issuer: options.issuer,
          audience: options.audience,
          currentDate: new Date(options.now()),
          requiredClaims: ['sub', 'sid', 'exp', 'iat', 'jti'],
        },
      );
      const claims = readClaims(payload);
      return claims && protectedHeader.kid !== undefined ? { ...claims, kid: protectedHeader.kid } : undefined;
    } catch (error) {
      if (error instanceof errors.JOSEError) return undefined;
      throw error;
    }
  }

  function remember(cacheKey: string, claims: AccessTokenClaims & { kid: string }): void {
    const [leastRecentlyUsed] = verified.keys();
    if (verified.size >= (options.maxVerified ?? cacheSize) && leastRecentlyUsed !== undefined)
      verified.delete(leastRecentlyUsed);
    verified.set(cacheKey, claims);
  }

  return { ttlSeconds: options.ttlSeconds, sign, verify };
}

function readClaims(payload: JWTPayload): AccessTokenClaims | undefined {
  const { sub, exp } = payload;
  const sid = payload.sid;
  if (typeof sub !== 'string' || typeof sid !== 'string' || typeof exp !== 'number') return undefined;
  return { userId: sub, sessionId: sid, expiresAtSeconds: exp };
}
