import { sql } from 'kysely';
import { listEvents } from '../src/audit/flow.ts';
import { newId } from '../src/crypto/ids.ts';
import { inTransaction } from '../src/db/database.ts';
import { listUsers, type UserPosition, type UserQuery } from '../src/users/search.ts';
import { newUser } from '../test/database.ts';
import { backends, type System, startSystem } from '../test/system.ts';

/**
 * `npm run bench:user-lists`: a page of the lists of users and events among a thousand and among a million, for every
 * kind of filter, as milliseconds (the median) and as the ratio of the two.
 */
const [few, many] = [1_000, Number(process.env.USERS ?? 1_000_000)];
const rowsPerStatement = 1_000;
const times = 15;
const limit = 50;

const filters: Readonly<Record<string, Omit<UserQuery, 'limit' | 'after'>>> = {
  'no filter': {},
  'status: most': { status: 'active' },
  'status: one in a hundred': { status: 'invited' },
  'role: everybody': { role: 'user' },
  'role: one in a thousand': { role: 'rare' },
  'role of everybody, rare status': { role: 'user', status: 'invited' },
  'rare role, common status': { role: 'rare', status: 'active' },
  'a whole address': { email: 'person0000500@example.com' },
  'the beginning of every address': { email: 'p' },
  'beginning of every address, rare status': { email: 'p', status: 'invited' },
  'beginning of every address, rare role': { email: 'p', role: 'rare' },
};
const eventFilters: Readonly<Record<string, Parameters<typeof listEvents>[1]>> = {
  'no filter': {},
  'a user': { userId: 'subject' },
  'a type': { type: 'user.disabled' },
  'a time': { sinceMs: 200, untilMs: 900 },
  'a user and a type': { userId: 'subject', type: 'user.disabled' },
  'a user and the type of most': { userId: '500', type: 'login.succeeded' },
};

for (const backend of backends) {
  const small = await startSystem(backend);
  const large = await startSystem(backend);
  try {
    await fill(small, few);
    await fill(large, many);
    console.log(`\n${backend}: a page of ${limit} among ${few} and among ${many}`);
    for (const [name, query] of Object.entries(filters)) {
      await compare(`users, ${name}`, (system) => measureUsers(system, query), small, large);
    }
    for (const [name, filter] of Object.entries(eventFilters)) {
      const page = { limit, after: undefined };
      await compare(
        `events, ${name}`,
        (system) => measure(() => listEvents(system.deps.db, filter, page)),
        small,
        large,
      );
    }
  } finally {
    await small.close();
    await large.close();
  }
}

async function fill({ deps }: System, count: number): Promise<void> {
  const { db, database } = deps;
  await db.insertInto('roles').values({ name: 'rare', description: '', permissions: '[]', created_at: 1 }).execute();
  for (let first = 0; first < count; first += rowsPerStatement) {
    const numbers = Array.from({ length: Math.min(rowsPerStatement, count - first) }, (_, index) => first + index);
    const rows = numbers.map((number) => ({
      ...newUser(),
      email: `person${String(number).padStart(7, '0')}@example.com`,
      status: number % 100 === 1 ? ('invited' as const) : ('active' as const),
      created_at: number,
    }));
    const roles = rows.flatMap(({ id, created_at: number }) => [
      { user_id: id, role_name: 'user' },
      ...(number % 1_000 === 7 ? [{ user_id: id, role_name: 'rare' }] : []),
    ]);
    const events = numbers.map((number) => ({
      id: newId(),
      type: number % 100 === 3 ? 'user.disabled' : 'login.succeeded',
      occurred_at: number,
      user_id: number % 100 === 3 ? 'subject' : `${number}`,
      details: '{}',
    }));
    await inTransaction(db, async (tx) => {
      await tx.insertInto('users').values(rows).execute();
      await tx.insertInto('user_roles').values(roles).execute();
      await tx.insertInto('audit_events').values(events).execute();
    });
  }
  // What autovacuum does by itself a minute later.
  if (database.dialect === 'postgres') await sql`analyze`.execute(db);
}

/** The first page and the one after it, which begins in the middle of a list. */
async function measureUsers({ deps }: System, query: Omit<UserQuery, 'limit' | 'after'>): Promise<number> {
  const { next } = await listUsers(deps, { ...query, limit, after: undefined });
  const positions: (UserPosition | undefined)[] = [undefined, next];
  const costs: number[] = [];
  for (const after of positions) costs.push(await measure(() => listUsers(deps, { ...query, limit, after })));
  return Math.max(...costs);
}

async function measure(act: () => Promise<unknown>): Promise<number> {
  const costs: number[] = [];
  for (let time = 0; time < times; time += 1) {
    const startedAtMs = performance.now();
    await act();
    costs.push(performance.now() - startedAtMs);
  }
  return costs.sort((a, b) => a - b)[Math.floor(times / 2)] ?? 0;
}

async function compare(
  name: string,
  cost: (system: System) => Promise<number>,
  small: System,
  large: System,
): Promise<void> {
  const [few, many] = [await cost(small), await cost(large)];
  console.log(`${name.padEnd(48)} ${few.toFixed(2)} ms, ${many.toFixed(2)} ms: ${(many / few).toFixed(1)} times`);
}
