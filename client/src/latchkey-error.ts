import type { ErrorCode, Problem } from './api-types.ts';

/**
 * What can go wrong on this side: no answer came, none in time, one that is not of Latchkey, nobody is signed in, or the
 * storage of the tokens did not work.
 */
export type ClientErrorCode = 'network_error' | 'timeout' | 'unexpected_response' | 'signed_out' | 'storage_failed';

type Circumstances = {
  cause?: unknown;
  status?: number;
  problem?: Problem;
  retryAfterSeconds?: number | undefined;
};

/** The one error of the client. Branch on `code`; `message` is for people and may be reworded. */
export class LatchkeyError extends Error {
  readonly code: ErrorCode | ClientErrorCode;
  /** The HTTP status, where there was an answer. */
  readonly status: number | undefined;
  /** The whole problem document (RFC 9457), where the service sent one. */
  readonly problem: Problem | undefined;
  /** When to come back, where the service said so. */
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode | ClientErrorCode, message: string, circumstances: Circumstances = {}) {
    super(message, { cause: circumstances.cause });
    this.name = 'LatchkeyError';
    this.code = code;
    this.status = circumstances.status;
    this.problem = circumstances.problem;
    this.retryAfterSeconds = circumstances.retryAfterSeconds;
  }
}

/** Whether something is an error of the client, and of one of the codes where some are named. */
export function isLatchkeyError(thrown: unknown, ...codes: LatchkeyError['code'][]): thrown is LatchkeyError {
  return thrown instanceof LatchkeyError && (codes.length === 0 || codes.includes(thrown.code));
}

/**
 * Whether the same request may succeed later, so that nothing is concluded from this failure. What a proxy in between
 * answers counts too: it says nothing about the session.
 */
export function isTemporary(thrown: unknown): boolean {
  if (!(thrown instanceof LatchkeyError)) return false;
  const { code, status = 0 } = thrown;
  return status >= 500 || status === 429 || ['network_error', 'timeout', 'unexpected_response'].includes(code);
}
