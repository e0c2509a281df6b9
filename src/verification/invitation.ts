import type { Db } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { noticeTtlMs } from '../mail/outbox.ts';
import type { RequestContext } from '../request-context.ts';
import { type CodeRequest, expiresInMinutes, issueCode } from './flow.ts';

/**
 * Invites somebody to the account that `record` makes for them, with a code for `registration`. It works as long as any
 * code does; the mail says how to get another one, and so is worth delivering later.
 */
export async function sendInvitation(
  deps: Deps,
  input: { email: string; userId: string; locale: string | null; actorId: string; record: (tx: Db) => Promise<void> },
  context: RequestContext | undefined,
): Promise<void> {
  const { email, userId, locale, actorId, record } = input;
  const request: CodeRequest = {
    email,
    purpose: 'registration',
    userId: null,
    recipient: { id: userId, locale },
    compose: (code) => ({ kind: 'invitation', code: { code, expiresInMinutes: expiresInMinutes(deps) } }),
    record,
    actorId,
    mailTtlMs: noticeTtlMs,
  };
  await issueCode(deps, request, context);
}
