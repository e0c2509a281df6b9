import { type Call, call, type Reply } from './client.ts';
import { inLanes } from './races/races.ts';
import type { System } from './system.ts';

/** From where a password is tried. The default is where `registerUser` comes from. */
export type Place = { remoteAddress?: string; userAgent?: string };

export const wrongPassword = 'not the password at all';

let strangers = 0;

/** A place that nobody has come from, on a network of its own. */
export function newPlace(): Place {
  strangers += 1;
  return { remoteAddress: `${11 + (strangers >> 8)}.${strangers & 255}.0.1`, userAgent: 'a stranger' };
}

/** A login with a password from a place. */
export function tryLogin(system: System, email: string, password: string, place: Place = {}): Promise<Reply> {
  return call(system, from({ method: 'POST', path: '/auth/login', body: { email, password } }, place));
}

/** A request from a place. */
export function from(request: Call, { remoteAddress, userAgent }: Place): Call {
  return {
    ...request,
    ...(remoteAddress === undefined ? {} : { remoteAddress }),
    ...(userAgent === undefined ? {} : { headers: { ...request.headers, 'user-agent': userAgent } }),
  };
}

/** Fails so many logins, each from a place of its own, some of them at once. */
export async function guess(system: System, email: string, times: number): Promise<void> {
  await inLanes(5, times, async () => {
    await tryLogin(system, email, wrongPassword, newPlace());
  });
}

/** Brings the public lane of an address so many failures further, of which only the first and the last are made. */
export async function guessOften(system: System, email: string, times: number): Promise<void> {
  const before = new Map((await readCounts(system)).map((row) => [row.lane, row.failures]));
  await guess(system, email, 1);
  const changed = (await readCounts(system)).find((row) => row.failures !== before.get(row.lane));
  if (changed === undefined) throw new Error('the attempt was not counted');
  const failures = changed.failures + times - 2;
  const query = system.deps.db.updateTable('password_failures').set({ failures }).where('lane', '=', changed.lane);
  await query.execute();
  await guess(system, email, 1);
}

/** The details of the failed logins that were recorded, the oldest first. */
export async function failuresOf({ deps }: System, userId: string | null): Promise<Record<string, unknown>[]> {
  const query = deps.db.selectFrom('audit_events').select('details').where('type', '=', 'login.failed');
  const rows = await query
    .where('user_id', userId === null ? 'is' : '=', userId)
    .orderBy('id')
    .execute();
  return rows.map(({ details }) => JSON.parse(details));
}

/** Every count in the database. */
export function readCounts({ deps }: System) {
  return deps.db.selectFrom('password_failures').selectAll().orderBy('lane').execute();
}
