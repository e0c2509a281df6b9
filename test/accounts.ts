import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { call, type Reply } from './client.ts';
import type { System } from './system.ts';

/** A registered user with the tokens of the registration. */
export type TestUser = {
  id: string;
  email: string;
  password: string;
  accessToken: string;
  refreshToken: string;
};

export const goodPassword = 'correct horse battery staple';

/** An address that no other test uses. */
export function newEmail(): string {
  return `user-${randomBytes(6).toString('hex')}@example.com`;
}

/** Asks for a code. */
export function sendCode(system: System, email: string, purpose: string): Promise<Reply> {
  return call(system, { method: 'POST', path: '/auth/send-code', body: { email, purpose } });
}

/** Reads the newest mail to an address. */
export async function newestMail(system: System, email: string) {
  await system.deps.outbox.deliverDue();
  return system.deps.mailbox?.list().find((mail) => mail.to === email);
}

/** Lists the subjects of all mails to an address, the newest first. */
export async function subjectsOfMails(system: System, email: string): Promise<string[]> {
  await system.deps.outbox.deliverDue();
  const mails = system.deps.mailbox?.list() ?? [];
  return mails.filter((mail) => mail.to === email).map((mail) => mail.subject);
}

/** Asks for a code and reads it from the mail. */
export async function obtainCode(system: System, email: string, purpose: string): Promise<string> {
  const reply = await sendCode(system, email, purpose);
  assert.equal(reply.status, 202);
  const mail = await newestMail(system, email);
  const code = mail?.subject.match(/^([0-9A-Z]{6}) is your code/)?.[1];
  assert.ok(code, `no code was mailed to ${email}`);
  return code;
}

/** Proves an address for a purpose. */
export async function proveAddress(system: System, email: string, purpose: string): Promise<string> {
  const code = await obtainCode(system, email, purpose);
  const reply = await call(system, { method: 'POST', path: '/auth/verify-code', body: { email, purpose, code } });
  assert.equal(reply.status, 200);
  return reply.body.verification_token;
}

/** Disables a user as an administrator would: the row, and what other instances may hold of it. */
export async function disableUser({ deps }: System, userId: string): Promise<void> {
  await deps.db.updateTable('users').set({ status: 'disabled' }).where('id', '=', userId).execute();
  await deps.sessionCache?.block(userId);
}

/** Registers a new user through the API. */
export async function registerUser(system: System, fields: Record<string, unknown> = {}): Promise<TestUser> {
  const email = (fields.email as string | undefined) ?? newEmail();
  const password = (fields.password as string | undefined) ?? goodPassword;
  const verification_token = await proveAddress(system, email, 'registration');
  const { email: _email, ...rest } = fields;
  const body = { verification_token, password, ...rest };
  const reply = await call(system, { method: 'POST', path: '/auth/register', body });
  assert.equal(reply.status, 201, reply.text);
  return toTestUser(reply, password);
}

/** Logs in with the password and returns the reply. */
export function logIn(system: System, email: string, password: string): Promise<Reply> {
  return call(system, { method: 'POST', path: '/auth/login', body: { email, password } });
}

/** Opens a further session of a user. */
export async function openSession(system: System, user: TestUser): Promise<TestUser> {
  const reply = await logIn(system, user.email, user.password);
  assert.equal(reply.status, 200, reply.text);
  return toTestUser(reply, user.password);
}

/** Exchanges a refresh token. */
export function refresh(system: System, refreshToken: string): Promise<Reply> {
  return call(system, { method: 'POST', path: '/auth/refresh', body: { refresh_token: refreshToken } });
}

/** Reads the account of a token; 200 says that the token is alive. */
export function readMe(system: System, accessToken: string): Promise<Reply> {
  return call(system, { method: 'GET', path: '/users/me', token: accessToken });
}

function toTestUser(reply: Reply, password: string): TestUser {
  const { user, access_token: accessToken, refresh_token: refreshToken } = reply.body;
  return { id: user.id, email: user.email, password, accessToken, refreshToken };
}

/** What a refusal says when the budget of mails of an address is used up. */
export const budgetSpent = {
  detail: 'This address was mailed a moment ago, or too often. Retry-After says when the next mail can be sent.',
};
