/**
 * Short-lived state that every instance shares: codes, verification tokens and the budget of mails. Each
 * operation is one atomic step on one key. The caller passes the time, so that both implementations
 * expire by the same clock. Every operation may throw AppError `temporarily_unavailable`.
 */
export type EphemeralStore = {
  /** Puts an entry, replacing the one that was there. */
  put(key: string, entry: Entry, nowMs: number): Promise<void>;
  /** Returns the payload when the digest is the entry's, without counting a try. */
  peek(key: string, digest: string, nowMs: number): Promise<string | undefined>;
  /**
   * Counts a try, then compares: returns the payload and removes the entry when one of the digests is the
   * entry's. An entry that has no tries left is removed. Entries without a limit are not counted.
   */
  take(key: string, digests: readonly string[], nowMs: number): Promise<string | undefined>;
  /** Removes entries, whether they are there or not. */
  remove(keys: readonly string[]): Promise<void>;
  /** Records one use if every window has room for it; else changes nothing and says how long to wait. */
  spend(key: string, windows: readonly Window[], nowMs: number): Promise<SpendResult>;
  /** Takes back the use that was recorded at this time. */
  refund(key: string, spentAtMs: number): Promise<void>;
  /** Frees what has expired, where the store does not do that by itself. */
  collect(nowMs: number): Promise<void>;
  ping(): Promise<void>;
  close(): Promise<void>;
};

/** A payload that is given to whoever shows the digest. */
export type Entry = {
  digest: string;
  payload: string;
  expiresAtMs: number;
  /** How many times `take` may be tried; absent where the digest cannot be guessed. */
  tries?: number;
};

/** So many uses in any stretch of this length. */
export type Window = { uses: number; perMs: number };

export type SpendResult = { allowed: true } | { allowed: false; retryAfterMs: number };
