import type { LoadReply } from './http-connection.ts';
import type { Load } from './load.ts';
import type { BenchServer } from './program.ts';

/** A server under measurement: what each kind of request to it is, and what its expected success. */
export type Subject = {
  server: string;
  /** How many are in its database; null for one that has none. */
  users: number | null;
  process: BenchServer;
  read: Traffic;
  /** Reads with tokens that have never been sent, as far as refreshes have brought any; undefined where that is no matter. */
  readFirst: (Traffic & { left(): number }) | undefined;
  /** One chain for each connection; undefined where nothing is comparable. */
  refresh: Traffic | undefined;
  login: Traffic | undefined;
  /** Throws unless every refresh that was answered has rotated its session, as the database tells. */
  checkRotations(): Promise<void>;
  /** Starts it again on what it has, once its process has been stopped. */
  restart(differently?: { environment?: Record<string, string>; nodeFlags?: readonly string[] }): Promise<BenchServer>;
  close(): Promise<void>;
};

/** What is sent on each connection, and what must come back. */
export type Traffic = Pick<Load, 'next' | 'check'>;

/** Sends the requests one after the other, over and over, and tells the check which of them it was. */
export function inTurn(requests: readonly Buffer[], check: (reply: LoadReply, index: number) => void): Traffic {
  const underWay: number[] = [];
  let last = -1;
  return {
    next(connection) {
      last = (last + 1) % requests.length;
      underWay[connection] = last;
      return requests[last] ?? Buffer.alloc(0);
    },
    check: (reply, connection) => check(reply, underWay[connection] ?? -1),
  };
}

/** A chain for each connection: the next request carries the token that the last reply gave, and no other. */
export function inChains(
  firstTokens: readonly string[],
  exchange: { encode(token: string): Buffer; read(reply: LoadReply, connection: number): string | undefined },
): { traffic: Traffic; counts(): readonly number[] } {
  const tokens = [...firstTokens];
  const counts = tokens.map(() => 0);
  return {
    counts: () => counts,
    traffic: {
      next: (connection) => exchange.encode(tokens[connection] ?? ''),
      check(reply, connection) {
        const token = exchange.read(reply, connection);
        if (token === undefined || token === tokens[connection]) throw new Error('a refresh token was not rotated');
        tokens[connection] = token;
        counts[connection] = (counts[connection] ?? 0) + 1;
      },
    },
  };
}
