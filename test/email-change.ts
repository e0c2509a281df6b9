import assert from 'node:assert/strict';
import { newestMail, readMe, type TestUser } from './accounts.ts';
import { type Call, call } from './client.ts';
import type { System } from './system.ts';

/** The request for a change of address. */
export function ask(user: TestUser, email: string): Call {
  return { method: 'POST', path: '/users/me/email', token: user.accessToken, body: { email } };
}

/** The request that completes a change. */
export function complete(user: TestUser, verification_token: string): Call {
  return { method: 'PUT', path: '/users/me/email', token: user.accessToken, body: { verification_token } };
}

/** The request that proves the new address. */
export function verify(email: string, code: string): Call {
  return { method: 'POST', path: '/auth/verify-code', body: { email, purpose: 'email_change', code } };
}

/** Asks for the change and reads the code from the new mailbox. */
export async function obtainChangeCode(system: System, user: TestUser, email: string): Promise<string> {
  assert.equal((await call(system, ask(user, email))).status, 202);
  const code = (await newestMail(system, email))?.subject.match(/^([0-9A-Z]{6}) is your code to confirm/)?.[1];
  assert.ok(code, `no code was mailed to ${email}`);
  return code;
}

/** Asks for the change and proves the new address. */
export async function prove(system: System, user: TestUser, email: string): Promise<string> {
  const code = await obtainChangeCode(system, user, email);
  const reply = await call(system, verify(email, code));
  assert.equal(reply.status, 200);
  return reply.body.verification_token;
}

/** The address that an account has now. */
export async function emailOf(system: System, user: TestUser): Promise<string> {
  return (await readMe(system, user.accessToken)).body.email;
}
