import { randomToken, sha256 } from '../crypto/secrets.ts';
import type { Deps } from '../deps.ts';
import { AppError } from '../errors.ts';
import { handleOf, tokenKey } from './entry-keys.ts';
import type { VerificationPurpose } from './purposes.ts';

/** A proof of an address that can be used once. */
export type VerificationToken = { token: string; expiresInSeconds: number };

/** What a verification token proves. */
export type Proof = {
  email: string;
  /** Who asked for the code, where that was a user who was logged in. */
  userId: string | null;
  /** When the code was sent: what was decided about the account since then outlives the proof. */
  sentAtMs: number;
};

/** A proof as it is kept: with its end, so that giving it back does not prolong it. */
type StoredProof = Proof & { expiresAtMs: number };

const tokenTtlSeconds = 600;
const tokenPattern = /^([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{43})$/;

/** The longest text that is looked at as a verification token. */
export const verificationTokenMaxLength = 128;

/** Makes a token that proves an address. It takes the place of an earlier one for the same purpose. */
export async function issueVerificationToken(
  deps: Deps,
  purpose: VerificationPurpose,
  proof: Proof,
): Promise<VerificationToken> {
  const secret = randomToken();
  const handle = handleOf(proof.email);
  const nowMs = deps.clock.now();
  const expiresAtMs = nowMs + tokenTtlSeconds * 1000;
  const payload = JSON.stringify({ ...proof, expiresAtMs } satisfies StoredProof);
  await deps.ephemeral.put(tokenKey(handle, purpose), { digest: sha256(secret), payload, expiresAtMs }, nowMs);
  return { token: `${handle}.${secret}`, expiresInSeconds: tokenTtlSeconds };
}

/** Says what a verification token proves, without using it up. */
export async function peekProof(deps: Deps, token: string, purpose: VerificationPurpose): Promise<Proof> {
  const parsed = parseToken(token);
  const payload =
    parsed && (await deps.ephemeral.peek(tokenKey(parsed.handle, purpose), parsed.digest, deps.clock.now()));
  if (payload === undefined) throw new AppError('invalid_verification_token');
  return JSON.parse(payload) as Proof;
}

/**
 * Uses a verification token up for one act: of any number of parallel uses one gets through. When the act
 * fails because a component is away, the token is given back, so that the same request can be repeated.
 */
export async function useVerificationToken<T>(
  deps: Deps,
  token: string,
  purpose: VerificationPurpose,
  act: (proof: Proof) => Promise<T>,
): Promise<T> {
  const parsed = parseToken(token);
  if (parsed === undefined) throw new AppError('invalid_verification_token');
  const key = tokenKey(parsed.handle, purpose);
  const payload = await deps.ephemeral.take(key, [parsed.digest], deps.clock.now());
  if (payload === undefined) throw new AppError('invalid_verification_token');
  const proof = JSON.parse(payload) as StoredProof;
  try {
    return await act(proof);
  } catch (error) {
    if (!(error instanceof AppError)) {
      const entry = { digest: parsed.digest, payload, expiresAtMs: proof.expiresAtMs };
      await deps.ephemeral.put(key, entry, deps.clock.now()).catch((lost: unknown) => {
        deps.log.warn({ err: lost }, 'a verification token could not be given back');
      });
    }
    throw error;
  }
}

function parseToken(token: string): { handle: string; digest: string } | undefined {
  const [, handle, secret] = tokenPattern.exec(token) ?? [];
  return handle === undefined || secret === undefined ? undefined : { handle, digest: sha256(secret) };
}
