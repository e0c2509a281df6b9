import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { describe, mock, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Kysely, sql } from 'kysely';
import { newSession, newUser, onDatabase } from '../../test/database.ts';
import { countCommits } from '../../test/sqlite-log.ts';
import { newId } from '../crypto/ids.ts';
import { inTransaction, openDatabase } from './database.ts';
import { isDatabaseUnavailable, isForeignKeyViolation, isUniqueViolation } from './failures.ts';
import type { Db, Schema } from './schema.ts';
import { createSqliteDialect } from './sqlite-dialect.ts';
import { createSqliteGroups } from './sqlite-groups.ts';

type User = ReturnType<typeof newUser>;

describe('what is written to SQLite in one turn of the event loop', () => {
  test('is one commit, be it transactions or single statements', () =>
    onFile(async ({ db, countCommits }) => {
      const before = countCommits();
      const users = newUsers(40);
      await Promise.all(
        users.map((user, index) => (index % 2 === 0 ? insert(db, user) : insertInTransaction(db, user))),
      );
      assert.equal(countCommits() - before, 1);
      assert.deepEqual(await listUsers(db), idsOf(users));
    }));

  test('is one commit for each where groups are turned off', () =>
    onFile(async ({ path }) => {
      const db = new Kysely<Schema>({ dialect: createSqliteDialect(path, { commitsInGroups: false }) });
      const before = countCommits(path);
      const users = newUsers(10);
      await Promise.all(
        users.map((user, index) => (index % 2 === 0 ? insert(db, user) : insertInTransaction(db, user))),
      );
      assert.equal(countCommits(path) - before, 10);
      assert.deepEqual(await listUsers(db), idsOf(users));
      await db.destroy();
    }));

  test('is committed when a turn brings nothing more, or after a few milliseconds', async () => {
    const database = new DatabaseSync(':memory:');
    database.exec('create table written (turn integer)');
    let nowMs = 0;
    const groups = createSqliteGroups(database, { isReadOnly: false, isShared: true, nowMs: () => nowMs });
    const write = () => {
      const group = groups.enter();
      groups.run(group, () => database.exec('insert into written values (1)'));
      groups.endUnit(group, true);
      return group;
    };
    const first = write();
    for (nowMs = 0; nowMs < 5; nowMs += 1) {
      await nextTurn();
      assert.equal(groups.current(), first, 'a turn that brought something is followed by another');
      write();
    }
    await nextTurn();
    assert.equal(groups.current(), undefined, 'five milliseconds have passed');
    await first.settled;
    const second = write();
    await nextTurn();
    assert.equal(groups.current(), second);
    await nextTurn();
    assert.equal(groups.current(), undefined, 'nothing more came');
    database.close();
  });

  test('is more than one commit when it is more than a group may hold', () =>
    onFile(async ({ db, countCommits }) => {
      const before = countCommits();
      const users = newUsers(300);
      await Promise.all(users.map((user) => insert(db, user)));
      assert.equal(countCommits() - before, 2);
      assert.equal((await listUsers(db)).length, 300);
    }));

  test('loses a transaction that throws, and keeps the others', () =>
    onFile(async ({ db, countCommits }) => {
      const before = countCommits();
      const [first, lost, last] = newUsers(3) as [User, User, User];
      const outcomes = await Promise.allSettled([
        insertInTransaction(db, first),
        insertAndThrow(db, lost),
        insertInTransaction(db, last),
      ]);
      assert.deepEqual(outcomes.map(describeOutcome), ['done', 'changed my mind', 'done']);
      assert.equal(countCommits() - before, 1);
      assert.deepEqual(await listUsers(db), idsOf([first, last]));
    }));

  test('loses a statement that is refused, and keeps the others', () =>
    onFile(async ({ db }) => {
      const [first, last] = newUsers(2) as [User, User];
      const same = { ...newUser(), email: first.email };
      const [, refused] = await Promise.allSettled([insert(db, first), insert(db, same), insert(db, last)]);
      assert.equal(isUniqueViolation(reasonOf(refused)), true);
      assert.deepEqual(await listUsers(db), idsOf([first, last]));
    }));

  test('is no commit at all when everything is refused', () =>
    onFile(async ({ db, countCommits }) => {
      const before = countCommits();
      const outcomes = await Promise.allSettled(newUsers(5).map((user) => insertAndThrow(db, user)));
      assert.deepEqual(outcomes.map(describeOutcome), Array(5).fill('changed my mind'));
      assert.equal(countCommits(), before);
      assert.deepEqual(await listUsers(db), []);
    }));

  test('is kept and lost unit by unit, in whatever order and however long they take', () =>
    onFile(async ({ db, reopen }) => {
      const kept: User[] = [];
      const units = newUsers(200).map(async (user, index) => {
        if (index % 7 === 0) await nextTurn();
        const work = inTransaction(db, async (tx) => {
          await insert(tx, user);
          if (index % 11 === 0) await nextTurn();
          const extra = newUser();
          await insert(tx, extra);
          if (index % 3 === 0) throw new Error('changed my mind');
          return extra;
        });
        const outcome = await work.catch(() => undefined);
        assert.equal(outcome === undefined, index % 3 === 0);
        if (outcome !== undefined) kept.push(user, outcome);
      });
      await Promise.all(units);
      assert.deepEqual(await listUsers(db), idsOf(kept));
      assert.deepEqual(await listUsers(await reopen()), idsOf(kept));
    }));
});

describe('a group that is not committed yet', () => {
  test('is seen by nobody outside of it and told to nobody', () =>
    onFile(async ({ db, path }) => {
      const user = newUser();
      let isTold = false;
      const write = insert(db, user).then(() => {
        isTold = true;
      });
      await untilLocked(path);
      assert.deepEqual(await listUsers(db), []);
      assert.deepEqual((await sql`select id from users`.execute(db)).rows, []);
      assert.equal(isTold, false);
      await write;
      assert.deepEqual(await listUsers(db), [user.id]);
    }));

  test('is seen by the transactions within it', () =>
    onFile(async ({ db }) => {
      const user = newUser();
      const [, seen] = await Promise.all([insert(db, user), inTransaction(db, listUsers)]);
      assert.deepEqual(seen, [user.id]);
    }));

  test('waits for the transaction that is open in it, and is one commit with that', () =>
    onFile(async ({ db, countCommits }) => {
      const before = countCommits();
      const gate = Promise.withResolvers<void>();
      const [early, late] = newUsers(2) as [User, User];
      const first = insert(db, early);
      const second = inTransaction(db, async (tx) => {
        await gate.promise;
        await insert(tx, late);
      });
      for (let turn = 0; turn < 5; turn += 1) await nextTurn();
      assert.equal(countCommits(), before);
      assert.deepEqual(await listUsers(db), [], 'a reader waits for neither');
      gate.resolve();
      await Promise.all([first, second]);
      assert.equal(countCommits() - before, 1);
    }));

  test('goes on without a transaction that holds it for too long, of which nothing is kept', () =>
    onFile(async ({ db }) => {
      const [early, late] = newUsers(2) as [User, User];
      mock.timers.enable({ apis: ['setTimeout'] });
      try {
        const first = insert(db, early);
        const deadlock = inTransaction(db, async (tx) => {
          await insert(tx, late);
          await first;
          await insert(tx, newUser());
        });
        deadlock.catch(() => {});
        for (let turn = 0; turn < 5; turn += 1) await nextTurn();
        assert.deepEqual(await listUsers(db), []);
        mock.timers.tick(10_000);
        await first;
        const [outcome] = await Promise.allSettled([deadlock]);
        assert.equal(isDatabaseUnavailable(reasonOf(outcome)), true);
      } finally {
        mock.timers.reset();
      }
      assert.deepEqual(await listUsers(db), [early.id]);
      await insert(db, newUser());
    }));

  test('is committed before the handle closes, without a transaction that is still open', () =>
    onFile(async ({ db, path, reopen }) => {
      const [kept, cut] = newUsers(2) as [User, User];
      const never = Promise.withResolvers<void>();
      const write = insert(db, kept);
      void inTransaction(db, async (tx) => {
        await insert(tx, cut);
        await never.promise;
      });
      await untilLocked(path);
      await db.destroy();
      await write;
      assert.deepEqual(await listUsers(await reopen()), [kept.id]);
    }));

  test('waits with all its units for the lock of another process', () =>
    onFile(async ({ db, path, countCommits }) => {
      const other = new DatabaseSync(path);
      other.exec('begin immediate');
      const users = newUsers(20);
      const before = countCommits();
      const writes = Promise.allSettled(
        users.map((user, index) => (index % 2 === 0 ? insert(db, user) : insertInTransaction(db, user))),
      );
      for (let turn = 0; turn < 5; turn += 1) await nextTurn();
      assert.equal(countCommits(), before);
      other.exec('rollback');
      other.close();
      assert.deepEqual((await writes).map(describeOutcome), Array(20).fill('done'));
      assert.deepEqual(await listUsers(db), idsOf(users));
    }));
});

describe('a group whose commit fails', () => {
  test('is refused to every unit of it, and nothing is there, also after opening the file again', () =>
    onFile(async ({ db, reopen }) => {
      const outcomes = await Promise.allSettled([
        ...newUsers(5).map((user) => insert(db, user)),
        failAtCommit(db),
        ...newUsers(5).map((user) => insertInTransaction(db, user)),
      ]);
      assert.equal(outcomes.length, 11);
      for (const outcome of outcomes) assert.equal(isForeignKeyViolation(reasonOf(outcome)), true);
      assert.deepEqual(await listUsers(db), []);
      const next = newUser();
      await insert(db, next);
      assert.deepEqual(await listUsers(await reopen()), [next.id]);
    }));

  test('takes with it every refusal that rests on what was undone', () =>
    onFile(async ({ db }) => {
      const user = newUser();
      const outcomes = await Promise.allSettled([
        insert(db, user),
        insert(db, { ...newUser(), email: user.email }),
        insertInTransaction(db, { ...newUser(), email: user.email }),
        inTransaction(db, async (tx) => {
          assert.deepEqual(await listUsers(tx), [user.id]);
          throw new Error('the address is taken');
        }),
        failAtCommit(db),
      ]);
      for (const outcome of outcomes) {
        assert.equal(isForeignKeyViolation(reasonOf(outcome)), true, 'nobody is told that the address is taken');
      }
      await insert(db, { ...newUser(), email: user.email });
    }));

  test('takes with it what a single reader saw of it, where there is one handle for all', async () => {
    const { db, close } = await openDatabase('sqlite::memory:', () => {});
    const [first, last] = newUsers(2) as [User, User];
    const [, failed] = await Promise.allSettled([insert(db, first), listUsers(db), failAtCommit(db)]).then(
      (outcomes) => outcomes,
    );
    assert.equal(isForeignKeyViolation(reasonOf(failed)), true);
    assert.deepEqual(await listUsers(db), []);
    const [, seen] = await Promise.all([insert(db, last), listUsers(db)]);
    assert.deepEqual(seen, [last.id]);
    await close();
  });
});

describe('a file that is full', () => {
  test('in the middle of a group is refused to every unit that SQLite has undone, and used again when there is room', () =>
    onFile(async ({ db, reopen }) => {
      const [{ page_count: pages = 0 } = {}] = (await sql<{ page_count: number }>`pragma page_count`.execute(db)).rows;
      await sql.raw(`pragma max_page_count = ${pages + 10}`).execute(db);
      const small = newUsers(6);
      const large = { ...newUser(), metadata: JSON.stringify('x'.repeat(200_000)) };
      const outcomes = await Promise.allSettled([
        ...small.slice(0, 3).map((user) => insert(db, user)),
        inTransaction(db, async (tx) => {
          await insert(tx, small[3] as User);
          await insert(tx, large);
        }),
        ...small.slice(4).map((user) => insertInTransaction(db, user)),
      ]);
      const refused = outcomes.filter(({ status }) => status === 'rejected');
      for (const outcome of refused) assert.equal(isDatabaseUnavailable(reasonOf(outcome)), true);
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ['rejected', 'rejected', 'rejected', 'rejected', 'fulfilled', 'fulfilled'],
      );
      assert.deepEqual(await listUsers(db), idsOf(small.slice(4)));
      await sql`pragma max_page_count = 1000000`.execute(db);
      await insert(db, large);
      assert.deepEqual(await listUsers(await reopen()), idsOf([...small.slice(4), large]));
    }));
});

type OnFile = { db: Db; path: string; countCommits(): number; reopen(): Promise<Db> };

/** Runs a check on a file with its tables and no users. */
function onFile(check: (file: OnFile) => Promise<void>): Promise<void> {
  return onDatabase('sqlite+memory', async (first, url) => {
    const path = url.replace('sqlite:', '');
    await using resources = new AsyncDisposableStack();
    const reopen = async () => {
      await first.close();
      const { db, close } = await openDatabase(url, () => {});
      resources.defer(close);
      return db;
    };
    await check({ db: first.db, path, countCommits: () => countCommits(path), reopen });
  });
}

/** Waits, without letting the turn end, until a group has taken SQLite's lock. */
async function untilLocked(path: string): Promise<void> {
  const other = new DatabaseSync(path, { timeout: 0 });
  try {
    for (let attempts = 0; attempts < 100; attempts += 1) {
      try {
        other.exec('begin immediate; rollback');
      } catch {
        return;
      }
      await Promise.resolve();
    }
  } finally {
    other.close();
  }
  throw new Error('nothing was written');
}

function newUsers(count: number): User[] {
  return Array.from({ length: count }, newUser);
}

function idsOf(users: readonly { id: string }[]): string[] {
  return users.map(({ id }) => id).sort();
}

async function insert(db: Db, user: Omit<User, 'metadata'> & { metadata: string }): Promise<void> {
  await db.insertInto('users').values(user).execute();
}

function insertInTransaction(db: Db, user: User): Promise<void> {
  return inTransaction(db, (tx) => insert(tx, user));
}

function insertAndThrow(db: Db, user: User): Promise<void> {
  return inTransaction(db, async (tx) => {
    await insert(tx, user);
    throw new Error('changed my mind');
  });
}

/** Writes what SQLite takes until it is asked to commit: a row that refers to nobody, looked at only then. */
function failAtCommit(db: Db): Promise<void> {
  return inTransaction(db, async (tx) => {
    await sql`pragma defer_foreign_keys = on`.execute(tx);
    await tx.insertInto('sessions').values(newSession(newId())).execute();
  });
}

async function listUsers(db: Db): Promise<string[]> {
  const rows = await db.selectFrom('users').select('id').orderBy('id').execute();
  return rows.map(({ id }) => id);
}

function reasonOf(outcome: PromiseSettledResult<unknown> | undefined): unknown {
  assert.equal(outcome?.status, 'rejected');
  return outcome.reason;
}

function describeOutcome(outcome: PromiseSettledResult<unknown>): string {
  return outcome.status === 'fulfilled' ? 'done' : String((outcome.reason as Error).message);
}
