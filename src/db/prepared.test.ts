import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { newUser, onDatabase } from '../../test/database.ts';
import { backends } from '../../test/system.ts';
import { inTransaction } from './database.ts';
import { prepareQuery } from './prepared.ts';

for (const backend of backends) {
  describe(`prepared queries (${backend})`, () => {
    test('are built once and answer for the values of each call, in a transaction too', () =>
      onDatabase(backend, async ({ db }) => {
        let built = 0;
        const findEmail = prepareQuery((on, { userId, status }: { userId: string; status: 'active' | 'disabled' }) => {
          built += 1;
          return on.selectFrom('users').select('email').where('id', '=', userId).where('status', '=', status);
        });
        const [ada, bob] = [newUser(), newUser()];
        await db.insertInto('users').values([ada, bob]).execute();
        const emails = async (on: typeof db, userId: string, status: 'active' | 'disabled' = 'active') =>
          (await findEmail(on, { userId, status })).rows.map(({ email }) => email);
        assert.deepEqual(await emails(db, ada.id), [ada.email]);
        assert.deepEqual(await emails(db, bob.id), [bob.email]);
        assert.deepEqual(await emails(db, bob.id, 'disabled'), []);
        await inTransaction(db, async (tx) => {
          await tx.updateTable('users').set({ status: 'disabled' }).where('id', '=', bob.id).execute();
          assert.deepEqual(await emails(tx, bob.id, 'disabled'), [bob.email], 'it sees what its transaction did');
        });
        assert.equal(built, 1);
      }));

    test('say how many rows they changed', () =>
      onDatabase(backend, async ({ db }) => {
        const rename = prepareQuery((on, { userId, name }: { userId: string; name: string | null }) =>
          on.updateTable('users').set({ name }).where('id', '=', userId),
        );
        const user = newUser();
        await db.insertInto('users').values(user).execute();
        assert.equal((await rename(db, { userId: user.id, name: 'Ada' })).numAffectedRows, 1n);
        assert.equal((await rename(db, { userId: 'nobody', name: null })).numAffectedRows, 0n);
        assert.equal((await db.selectFrom('users').select('name').executeTakeFirst())?.name, 'Ada');
      }));

    test('are compiled for each database that they are run on', () =>
      onDatabase('sqlite+memory', ({ db: sqlite }) =>
        onDatabase(backend, async ({ db }) => {
          const count = prepareQuery((on, { email }: { email: string }) =>
            on.selectFrom('users').select('id').where('email', '=', email),
          );
          const user = newUser();
          await db.insertInto('users').values(user).execute();
          assert.deepEqual((await count(sqlite, user)).rows, []);
          assert.equal((await count(db, user)).rows.length, 1);
        }),
      ));
  });
}

test('a value that is computed with throws where the query is built, instead of being frozen into it', () =>
  onDatabase('sqlite+memory', async ({ db }) => {
    const next = prepareQuery((on, { generation }: { generation: number }) =>
      on
        .selectFrom('sessions')
        .select('id')
        .where('generation', '=', generation + 1),
    );
    const labelled = prepareQuery((on, { name }: { name: string }) =>
      on.selectFrom('users').select('id').where('name', '=', `the ${name}`),
    );
    await assert.rejects(next(db, { generation: 1 }), /generation of a prepared query/);
    await assert.rejects(labelled(db, { name: 'first' }), /name of a prepared query/);
  }));
