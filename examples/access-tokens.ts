import { createRemoteJWKSet, errors, jwtVerify } from 'jose';

/** Who calls, as the access token says. */
export type Caller = { userId: string; sessionId: string; permissions: readonly string[] };

/** Where tokens come from and whom they must be for. */
export type TokenSource = { issuer: string; audience: string };

/** Says who a token stands for, or undefined where it is not one that counts. Throws when the keys cannot be had. */
export type VerifyToken = (token: string) => Promise<Caller | undefined>;

/**
 * Verifies access tokens (RFC 9068) with the published keys, which are fetched once and again when a key is not among
 * them. Every check matters: without the audience a token for another service would do here, without the type another
 * kind of token, and without the algorithm whatever the token asks for.
 */
export function createVerifier({ issuer, audience }: TokenSource): VerifyToken {
  const keys = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`), { timeoutDuration: 3_000 });
  return async (token) => {
    try {
      const { payload } = await jwtVerify(token, keys, {
        issuer,
        audience,
        typ: 'at+jwt',
        algorithms: ['ES256'],
        requiredClaims: ['sub', 'sid', 'exp', 'permissions'],
        clockTolerance: 5,
      });
      const { sub, sid, permissions } = payload;
      if (typeof sub !== 'string' || typeof sid !== 'string' || !isListOfStrings(permissions)) return undefined;
      return { userId: sub, sessionId: sid, permissions };
    } catch (error) {
      // A token that is wrong is refused. Keys that did not come say nothing about the token.
      if (isVerdict(error)) return undefined;
      throw error;
    }
  };
}

function isVerdict(error: unknown): boolean {
  if (error instanceof errors.JWKSTimeout || error instanceof errors.JWKSInvalid) return false;
  return error instanceof errors.JOSEError && error.code !== 'ERR_JOSE_GENERIC';
}

function isListOfStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}
