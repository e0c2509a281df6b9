import { randomBytes } from 'node:crypto';
import { newEmail } from '../accounts.ts';
import { bookEnd, bookSession, deviceCount, type HeldSession, type Ledger, type Person, perform } from './ledger.ts';
import type { Random } from './random.ts';

/** A session whose tokens the client has. */
export type UsableSession = HeldSession & { accessToken: string };

const codeWaitLimitMs = 3_000;
// Fewer than a service that slows down guessing lets pass.
const failedLoginsMax = 3;

/** Registers a new account with the code that was mailed. */
export async function signUp(ledger: Ledger, place: number, random: Random): Promise<void> {
  const [email, device] = [newEmail(), random.below(deviceCount)];
  await perform(ledger, {
    method: 'POST',
    path: '/auth/send-code',
    body: { email, purpose: 'registration' },
    device,
    status: 202,
    event: 'code.sent',
    mail: { to: email, topic: 'is your code to create your account' },
  });
  const verification_token = await prove(ledger, email, 'registration', device);
  if (verification_token === undefined) return;
  const [password, profile] = [newPassword(), newProfile()];
  await perform(ledger, {
    method: 'POST',
    path: '/auth/register',
    body: { verification_token, password, name: profile, metadata: { profile } },
    device,
    status: 201,
    event: 'user.registered',
    book(evidence) {
      const id = evidence.userId ?? '';
      const person = { id, email, password, formerPassword: undefined, failedLogins: 0, profile, sessions: [] };
      ledger.persons[place] = { ...person, devices: new Set([device]) };
      bookSession(ledger.persons[place], device, evidence);
    },
  });
}

/** Proves an address with the code that was mailed to it; undefined when the load ends before one is. */
async function prove(ledger: Ledger, email: string, purpose: string, device: number): Promise<string | undefined> {
  const giveUpAtMs = performance.now() + codeWaitLimitMs;
  const isOver = () => ledger.isStopping || performance.now() > giveUpAtMs;
  const code = await ledger.postOffice.findCode(email, isOver);
  if (code === undefined) return undefined;
  const body = { email, purpose, code };
  const { body: proof } = await perform(ledger, {
    method: 'POST',
    path: '/auth/verify-code',
    body,
    device,
    status: 200,
  });
  return proof.verification_token;
}

/** Logs in by password. */
export async function logIn(ledger: Ledger, person: Person, random: Random): Promise<void> {
  const { email, password, id } = person;
  const device = random.below(deviceCount);
  await perform(ledger, {
    method: 'POST',
    path: '/auth/login',
    body: { email, password },
    device,
    status: 200,
    event: 'login.succeeded',
    userId: id,
    ...(person.devices.has(device) ? {} : { mail: { to: email, topic: 'New login to your account' } }),
    book(evidence) {
      person.devices.add(device);
      bookSession(person, device, evidence);
    },
  });
}

/** Tries a password that is not the account's: the former one, where there was one. */
export async function failToLogIn(ledger: Ledger, person: Person): Promise<void> {
  if (person.failedLogins >= failedLoginsMax) return;
  person.failedLogins += 1;
  await perform(ledger, {
    method: 'POST',
    path: '/auth/login',
    body: { email: person.email, password: person.formerPassword ?? newPassword() },
    device: 0,
    status: 401,
    code: 'invalid_credentials',
    event: 'login.failed',
    userId: person.id,
  });
}

/** Presents the newest token that the client has, and books its successor. */
export async function refresh(ledger: Ledger, session: UsableSession): Promise<void> {
  await perform(ledger, {
    method: 'POST',
    path: '/auth/refresh',
    body: { refresh_token: session.refreshTokens.at(-1) },
    device: session.device,
    status: 200,
    refreshes: session,
    book({ tokens }) {
      if (tokens === undefined) return;
      session.refreshTokens.push(tokens.refresh);
      session.accessToken = tokens.access;
      session.generation = session.refreshTokens.length - 1;
      session.rotatedAtMs = performance.now();
    },
  });
}

/** Presents a token that is older than the one just replaced: taken for theft, it ends the session. */
export async function presentOldToken(
  ledger: Ledger,
  person: Person,
  session: HeldSession,
  generation: number,
): Promise<void> {
  await perform(ledger, {
    method: 'POST',
    path: '/auth/refresh',
    body: { refresh_token: session.refreshTokens[generation] },
    device: session.device,
    status: 401,
    code: 'refresh_token_reused',
    event: 'session.reuse_detected',
    mail: { to: person.email, topic: 'We ended one of your sessions' },
    userId: person.id,
    book: () => bookEnd(ledger, person, ({ id }) => id === session.id),
  });
}

/** Logs a session out, by either of its tokens. */
export async function logOut(ledger: Ledger, person: Person, session: UsableSession, random: Random): Promise<void> {
  const proof =
    random.below(2) === 0 ? { token: session.accessToken } : { body: { refresh_token: session.refreshTokens.at(-1) } };
  await perform(ledger, {
    method: 'POST',
    path: '/auth/logout',
    ...proof,
    device: session.device,
    status: 204,
    event: 'session.ended',
    userId: person.id,
    book: () => bookEnd(ledger, person, ({ id }) => id === session.id),
  });
}

/** Ends one session from another. */
export async function endOther(
  ledger: Ledger,
  person: Person,
  session: UsableSession,
  other: HeldSession,
): Promise<void> {
  await perform(ledger, {
    method: 'DELETE',
    path: `/users/me/sessions/${other.id}`,
    token: session.accessToken,
    device: session.device,
    status: 204,
    event: 'session.ended',
    userId: person.id,
    book: () => bookEnd(ledger, person, ({ id }) => id === other.id),
  });
}

/** Ends all sessions but the one that asks. */
export async function endAllOthers(ledger: Ledger, person: Person, session: UsableSession): Promise<void> {
  await perform(ledger, {
    method: 'DELETE',
    path: '/users/me/sessions',
    token: session.accessToken,
    device: session.device,
    status: 204,
    ...(person.sessions.length > 1 ? { event: 'session.others_ended' } : {}),
    userId: person.id,
    book: () => bookEnd(ledger, person, ({ id }) => id !== session.id),
  });
}

/** Changes name and metadata together. */
export async function changeProfile(ledger: Ledger, person: Person, session: UsableSession): Promise<void> {
  const profile = newProfile();
  await perform(ledger, {
    method: 'PATCH',
    path: '/users/me',
    body: { name: profile, metadata: { profile } },
    token: session.accessToken,
    device: session.device,
    status: 200,
    event: 'user.updated',
    userId: person.id,
    book() {
      person.profile = profile;
    },
  });
}

/** Changes the password, which ends the other sessions. */
export async function changePassword(ledger: Ledger, person: Person, session: UsableSession): Promise<void> {
  const { password: current_password } = person;
  const new_password = newPassword();
  await perform(ledger, {
    method: 'PUT',
    path: '/users/me/password',
    body: { current_password, new_password },
    token: session.accessToken,
    device: session.device,
    status: 204,
    event: 'password.changed',
    mail: { to: person.email, topic: 'Your password was changed' },
    userId: person.id,
    book() {
      person.password = new_password;
      person.formerPassword = current_password;
      person.devices = new Set([session.device]);
      bookEnd(ledger, person, ({ id }) => id !== session.id);
    },
  });
}

/** Moves the account to another address. */
export async function changeEmail(ledger: Ledger, person: Person, session: UsableSession): Promise<void> {
  const { accessToken: token, device } = session;
  const { id: userId, email: oldEmail } = person;
  const email = newEmail();
  await reauthenticate(ledger, person, session);
  await perform(ledger, {
    method: 'POST',
    path: '/users/me/email',
    body: { email },
    token,
    device,
    status: 202,
    event: 'email_change.requested',
    mail: { to: email, topic: 'is your code to confirm your new address' },
    userId,
  });
  const verification_token = await prove(ledger, email, 'email_change', device);
  if (verification_token === undefined) return;
  await perform(ledger, {
    method: 'PUT',
    path: '/users/me/email',
    body: { verification_token },
    token,
    device,
    status: 200,
    event: 'email.changed',
    mail: { to: oldEmail, topic: 'Your e-mail address was changed' },
    userId,
    book() {
      person.email = email;
    },
  });
}

/** Deletes the account. */
export async function deleteAccount(ledger: Ledger, person: Person, session: UsableSession): Promise<void> {
  await reauthenticate(ledger, person, session);
  await perform(ledger, {
    method: 'DELETE',
    path: '/users/me',
    token: session.accessToken,
    device: session.device,
    status: 204,
    event: 'user.deleted',
    userId: person.id,
    book() {
      ledger.deletedUserIds.add(person.id);
      ledger.ended.persons.push(person);
      ledger.persons[ledger.persons.indexOf(person)] = undefined;
    },
  });
}

async function reauthenticate(ledger: Ledger, { id, password }: Person, session: UsableSession): Promise<void> {
  await perform(ledger, {
    method: 'POST',
    path: '/auth/reauthenticate',
    body: { password },
    token: session.accessToken,
    device: session.device,
    status: 204,
    event: 'session.reauthenticated',
    userId: id,
  });
}

/** Whether the client has the tokens of a session. */
export function isUsable(session: HeldSession): session is UsableSession {
  return session.accessToken !== undefined;
}

function newPassword(): string {
  return `pass ${randomBytes(9).toString('base64url')}`;
}

function newProfile(): string {
  return `Profile ${randomBytes(4).toString('hex')}`;
}
