import type { TokenResponse } from './api-types.ts';

/** The tokens of a session as they are stored: one record, so that no half of it can be read with the other's half. */
export type StoredTokens = {
  /** Names this sign-in among those of this storage; made here, kept through every refresh, and no secret. */
  session: string;
  access_token: string;
  refresh_token: string;
  /** When they were asked for, by this machine's clock, in milliseconds since 1970. */
  obtained_at: number;
  /** For how many seconds from then the access token lives, by the service's word. */
  expires_in: number;
};

/**
 * Where the tokens are kept. Each function may return a promise. `name` is set on a storage that several tabs or
 * processes share, and is the same in all of them: the lock and the channel between them are called by it.
 */
export type TokenStorage = {
  readonly name?: string;
  read(): unknown;
  write(tokens: StoredTokens): unknown;
  remove(): unknown;
};

/**
 * Keeps the tokens in this page's memory, where no other page and no later script can read them. A reload signs out.
 */
export function memoryTokens(): TokenStorage {
  let held: StoredTokens | undefined;
  return {
    read: () => held,
    write: (tokens) => {
      held = tokens;
    },
    remove: () => {
      held = undefined;
    },
  };
}

/**
 * Keeps the tokens in `localStorage`: they outlive a reload and all tabs of the origin share them, and any script that
 * runs in the page can read them.
 */
export function localStorageTokens(name = 'latchkey'): TokenStorage {
  return {
    name,
    // The property itself throws where the browser blocks storage, so it is read at each use and not before.
    read: () => {
      const text = localStorage.getItem(name);
      return text === null ? undefined : parseJson(text);
    },
    write: (tokens) => localStorage.setItem(name, JSON.stringify(tokens)),
    remove: () => localStorage.removeItem(name),
  };
}

/** What is no JSON was not written here, and counts as nothing. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Makes the record of tokens that were just obtained. */
export function toStoredTokens(reply: TokenResponse, askedAtMs: number, session: string): StoredTokens {
  const { access_token, refresh_token, expires_in } = reply;
  return { session, access_token, refresh_token, expires_in, obtained_at: askedAtMs };
}

/** A name for a sign-in that just happened. */
export function newSessionName(): string {
  return crypto.getRandomValues(new Uint32Array(3)).join('-');
}

/** Reads a record, or undefined where there is none: what else may be stored under our name is not sent anywhere. */
export function parseStoredTokens(value: unknown): StoredTokens | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { session, access_token, refresh_token, obtained_at, expires_in } = value as Record<string, unknown>;
  if (typeof session !== 'string' || typeof access_token !== 'string') return undefined;
  if (typeof refresh_token !== 'string') return undefined;
  if (typeof obtained_at !== 'number' || typeof expires_in !== 'number') return undefined;
  if (!/^[\w.~+/-]+=*$/.test(access_token) || !/^[\w.-]{1,128}$/.test(refresh_token)) return undefined;
  return { session, access_token, refresh_token, obtained_at, expires_in };
}

/**
 * For how many milliseconds the access token still lives. Only the time that passed here counts, so it does not matter
 * by how much this machine's clock and the service's differ; where the clock was put back, the token is taken for old.
 */
export function remainingMs({ obtained_at, expires_in }: StoredTokens, nowMs: number): number {
  const ageMs = nowMs - obtained_at;
  return ageMs < 0 ? 0 : expires_in * 1000 - ageMs;
}
