import { prepareQuery } from '../db/prepared.ts';
import type { Db, SessionRow, UserRow } from '../db/schema.ts';
import type { PageRequest } from '../paging.ts';
import { permissionsOfRoles } from '../permissions.ts';

/** A session with its user as the guard and the refresh need them: one read. */
export type SessionWithUser = {
  session: SessionRow;
  user: { id: string; email: string; locale: string | null; status: UserRow['status'] };
  roles: string[];
  permissions: string[];
};

/** Adds a session. */
export async function insertSession(db: Db, row: SessionRow): Promise<void> {
  await db.insertInto('sessions').values(row).execute();
}

// One row for each role, and one when there is none: a join both databases plan the same way.
const sessionWithUser = prepareQuery((db, { sessionId }: { sessionId: string }) =>
  db
    .selectFrom('sessions')
    .innerJoin('users', 'users.id', 'sessions.user_id')
    .leftJoin('user_roles', 'user_roles.user_id', 'users.id')
    .leftJoin('roles', 'roles.name', 'user_roles.role_name')
    .selectAll('sessions')
    .select(['users.email', 'users.locale', 'users.status', 'roles.name as role_name', 'roles.permissions'])
    .where('sessions.id', '=', sessionId)
    .orderBy('roles.name'),
);

/** Reads a session, its user, and the user's roles and permissions in one query. */
export async function findSessionWithUser(db: Db, sessionId: string): Promise<SessionWithUser | undefined> {
  const { rows } = await sessionWithUser(db, { sessionId });
  const [first] = rows;
  if (first === undefined) return undefined;
  const { email, locale, status, role_name: _role, permissions: _permissions, ...session } = first;
  const roles = rows.flatMap(({ role_name: name, permissions: stored }) =>
    name === null || stored === null ? [] : [{ name, permissions: stored }],
  );
  return {
    session,
    user: { id: session.user_id, email, locale, status },
    roles: roles.map(({ name }) => name),
    permissions: permissionsOfRoles(roles),
  };
}

type Advance = { sessionId: string; generation: number; nowMs: number; idleExpiresAtMs: number };

const generationAdvance = prepareQuery((db, change: Advance & { nextGeneration: number }) =>
  db
    .updateTable('sessions')
    .set({ generation: change.nextGeneration, rotated_at: change.nowMs, idle_expires_at: change.idleExpiresAtMs })
    .where('id', '=', change.sessionId)
    .where('generation', '=', change.generation),
);

/**
 * Moves a session to its next generation if it is still at this one. The condition decides every race:
 * of any number of parallel refreshes, one gets true.
 */
export async function advanceGeneration(db: Db, change: Advance): Promise<boolean> {
  const result = await generationAdvance(db, { ...change, nextGeneration: change.generation + 1 });
  return result.numAffectedRows === 1n;
}

/** Ends one session of one user. Returns false when it had ended before. */
export async function deleteSession(db: Db, sessionId: string, userId: string): Promise<boolean> {
  const result = await db
    .deleteFrom('sessions')
    .where('id', '=', sessionId)
    .where('user_id', '=', userId)
    .executeTakeFirst();
  return result.numDeletedRows === 1n;
}

/** Ends every session of a user but the one to keep. Returns how many ended. */
export async function deleteSessionsOfUser(db: Db, userId: string, keepSessionId?: string): Promise<number> {
  const result = await db
    .deleteFrom('sessions')
    .where('user_id', '=', userId)
    .$if(keepSessionId !== undefined, (query) => query.where('id', '!=', keepSessionId ?? ''))
    .executeTakeFirst();
  return Number(result.numDeletedRows);
}

// A user far above the cap, after it was lowered, is brought down by this many at each login.
const excessBatch = 1_000;

/**
 * Ends the oldest sessions of a user that are over the cap, counting the one that was just opened but never
 * ending it: clocks of several instances may disagree about which is the oldest. Returns how many ended.
 */
export async function deleteSessionsOverCap(
  db: Db,
  userId: string,
  { newestId, cap, nowMs }: { newestId: string; cap: number; nowMs: number },
): Promise<number> {
  const result = await db
    .deleteFrom('sessions')
    .where('id', 'in', (eb) =>
      eb
        .selectFrom('sessions')
        .select('id')
        .where('user_id', '=', userId)
        .where('id', '!=', newestId)
        // One that has expired takes nobody's place; the cleaner comes for it.
        .where('idle_expires_at', '>', nowMs)
        .orderBy('created_at', 'desc')
        .orderBy('id', 'desc')
        .limit(excessBatch)
        .offset(cap - 1),
    )
    .executeTakeFirst();
  return Number(result.numDeletedRows);
}

/** Reads one row more than the page holds of a user's sessions that have not expired, the newest first. */
export function listLiveSessions(db: Db, userId: string, page: PageRequest, nowMs: number): Promise<SessionRow[]> {
  const { after } = page;
  return db
    .selectFrom('sessions')
    .selectAll()
    .where('user_id', '=', userId)
    .where('idle_expires_at', '>', nowMs)
    .$if(after !== undefined, (query) =>
      query.where(({ eb, refTuple, tuple }) =>
        eb(refTuple('created_at', 'id'), '<', tuple(after?.atMs ?? 0, after?.id ?? '')),
      ),
    )
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(page.limit + 1)
    .execute();
}

/** Sets when the user of a session last proved who they are. Returns false when the session has ended. */
export async function updateAuthenticatedAt(
  db: Db,
  sessionId: string,
  userId: string,
  nowMs: number,
): Promise<boolean> {
  const result = await db
    .updateTable('sessions')
    .set({ authenticated_at: nowMs })
    .where('id', '=', sessionId)
    .where('user_id', '=', userId)
    .executeTakeFirst();
  return result.numUpdatedRows === 1n;
}
