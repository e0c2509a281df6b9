import { idPattern } from './ids.ts';
import { constantTimeEqual, hmacSha256, type Keyring } from './secrets.ts';

const version = 'v1';
// What does not match is refused before any read. Ten digits hold one refresh a second for 300 years.
const tokenPattern = new RegExp(`^v1\\.(${idPattern})\\.(0|[1-9][0-9]{0,9})\\.([A-Za-z0-9_-]{43})$`);

/** The longest text that can be a refresh token. */
export const refreshTokenMaxLength = 128;

/** A refresh token taken apart. That it is genuine is not known yet. */
export type ParsedRefreshToken = { sessionId: string; generation: number; mac: string };

/** Takes a refresh token apart, or returns undefined when it cannot be one. */
export function parseRefreshToken(token: string): ParsedRefreshToken | undefined {
  const [, sessionId, generation, mac] = tokenPattern.exec(token) ?? [];
  if (sessionId === undefined || generation === undefined || mac === undefined) return undefined;
  return { sessionId, generation: Number(generation), mac };
}

/**
 * Makes the refresh token of one generation of a session. The same inputs give the same token, which is
 * how a lost reply is repeated without storing any token; making one needs both the row's salt and the secret.
 */
export function makeRefreshToken(keyring: Keyring, sessionId: string, generation: number, salt: string): string {
  const mac = computeMac(keyring.current.key('refresh-token'), sessionId, generation, salt);
  return `${version}.${sessionId}.${generation}.${mac}`;
}

/** Says whether a parsed token was made here for the session with this salt, under any configured secret. */
export function isGenuineRefreshToken(keyring: Keyring, token: ParsedRefreshToken, salt: string): boolean {
  return keyring.all.some((root) => {
    const expected = computeMac(root.key('refresh-token'), token.sessionId, token.generation, salt);
    return constantTimeEqual(expected, token.mac);
  });
}

function computeMac(key: Buffer, sessionId: string, generation: number, salt: string): string {
  return hmacSha256(key, [version, sessionId, generation, salt]);
}
