import { newId } from '../src/crypto/ids.ts';
import { goodPassword, newEmail } from './accounts.ts';
import { guess, guessOften, newPlace, tryLogin } from './guessing.ts';
import type { System } from './system.ts';

/** An address whose state nobody may learn. */
export type Subject = { email: string; password: string };

/** The states that an address can be in, with what brings one about. Limits must be on where waits are wanted. */
export const states = {
  'an active account': (system) => insertAccount(system, {}),
  'an unknown address': async () => ({ email: newEmail(), password: goodPassword }),
  'a disabled account': (system) => insertAccount(system, { status: 'disabled' }),
  'an invited account': (system) => insertAccount(system, { status: 'invited', password_hash: null }),
  'an account without a password': (system) => insertAccount(system, { password_hash: null }),
  'an account where guesses have to wait': async (system) => throttle(system, await insertAccount(system, {})),
  'an unknown address where they have to': async (system) =>
    throttle(system, { email: newEmail(), password: goodPassword }),
  'an account whose password is suspended': async (system) => suspend(system, await insertAccount(system, {})),
  'an unknown address where it would be': async (system) =>
    suspend(system, { email: newEmail(), password: goodPassword }),
  'an account that was deleted': async (system) => {
    const subject = await insertAccount(system, {});
    await system.deps.db.deleteFrom('users').where('email', '=', subject.email).execute();
    return subject;
  },
} as const satisfies Record<string, (system: System) => Promise<Subject>>;

type Columns = { status?: 'active' | 'disabled' | 'invited'; password_hash?: string | null };

const hashes = new WeakMap<System, Promise<string>>();

/** Adds an account as the flows would, but for the mails and the time that they take. */
export async function insertAccount(system: System, columns: Columns, email = newEmail()): Promise<Subject> {
  const hash = hashes.get(system) ?? system.deps.passwords.hash(goodPassword);
  hashes.set(system, hash);
  const nowMs = system.clock.now();
  const row = { id: newId(), email, name: null, locale: null, metadata: '{}', last_login_at: null };
  const times = { created_at: nowMs, updated_at: nowMs };
  await system.deps.db
    .insertInto('users')
    .values({ ...row, ...times, status: 'active', password_hash: await hash, ...columns })
    .execute();
  return { email, password: goodPassword };
}

/** Guesses from so many places that every further stranger has to wait. */
async function throttle(system: System, subject: Subject): Promise<Subject> {
  await guess(system, subject.email, 20);
  return subject;
}

/** Guesses until no password is accepted any more, leaving no wait behind. */
async function suspend(system: System, subject: Subject): Promise<Subject> {
  await guessOften(system, subject.email, 101);
  return subject;
}

/** Logs an account in from a place of its own and returns the access token. */
export async function openAnySession(system: System, { email, password }: Subject): Promise<string> {
  const reply = await tryLogin(system, email, password, newPlace());
  if (reply.status !== 200) throw new Error(`the login was refused: ${reply.text}`);
  return reply.body.access_token;
}
