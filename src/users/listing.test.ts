import assert from 'node:assert/strict';
import { test } from 'node:test';
import { registerUser } from '../../test/accounts.ts';
import { administration, done, giveRole, makeRole, registerAdministrator } from '../../test/administrators.ts';
import { assertRefused } from '../../test/client.ts';
import { newUser } from '../../test/database.ts';
import { describeOnBackends } from '../../test/system.ts';

type Listed = { id: string; email: string; status: string; roles: string[]; created_at: string };

describeOnBackends('lists of users', {}, (system) => {
  const asAdministrator = async () => administration((await registerAdministrator(system())).accessToken);
  let groups = 0;

  /** Adds users behind the service's back whose addresses begin alike, as no others do. */
  async function addGroup(count: number, change: (index: number) => Partial<ReturnType<typeof newUser>> | object) {
    groups += 1;
    const prefix = `group${groups}-`;
    const rows = Array.from({ length: count }, (_, index) => ({
      ...newUser(),
      email: `${prefix}${String(index).padStart(4, '0')}@example.com`,
      ...change(index),
    }));
    await system().deps.db.insertInto('users').values(rows).execute();
    return { prefix, rows };
  }

  /** Reads every page of a list. */
  async function readAll(list: (query: string) => Parameters<typeof done>[1], query: string, limit: number) {
    const pages: Listed[][] = [];
    let cursor: string | null = null;
    do {
      const after: string = cursor === null ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const { body } = await done(system(), list(`?limit=${limit}${query}${after}`));
      pages.push(body.items);
      cursor = body.next_cursor;
    } while (cursor !== null);
    return pages;
  }

  const idsOf = (users: readonly { id: string }[]) => users.map(({ id }) => id);

  test('the newest come first, each once, also where many were made at the same moment', async () => {
    const { list } = await asAdministrator();
    const future = system().clock.now() + 1_000_000;
    const { rows } = await addGroup(10, (index) => ({ created_at: future + (index < 6 ? 0 : index) }));
    const expected = rows.toSorted((a, b) => b.created_at - a.created_at || (a.id < b.id ? 1 : -1));
    const pages = await readAll(list, '', 3);
    assert.deepEqual(idsOf(pages.flat()).slice(0, 10), idsOf(expected));
    assert.equal(new Set(idsOf(pages.flat())).size, pages.flat().length);
    const { rows: count } = { rows: await system().deps.db.selectFrom('users').select('id').execute() };
    assert.equal(pages.flat().length, count.length);
  });

  test('a list goes on where it was when users come and go between its pages', async () => {
    const { list } = await asAdministrator();
    const future = system().clock.now() + 2_000_000;
    const { rows } = await addGroup(6, (index) => ({ created_at: future - index }));
    const first = (await done(system(), list('?limit=3'))).body;
    assert.deepEqual(idsOf(first.items), idsOf(rows.slice(0, 3)));
    // The row that the cursor names, and one before it, are gone; a newer one is there.
    const gone = idsOf(rows.slice(1, 3));
    await system().deps.db.deleteFrom('users').where('id', 'in', gone).execute();
    await addGroup(1, () => ({ created_at: future + 1 }));
    const second = (await done(system(), list(`?limit=3&cursor=${first.next_cursor}`))).body;
    assert.deepEqual(idsOf(second.items), idsOf(rows.slice(3)));
  });

  test('an address is found whole in any spelling of it, and by its beginning in the order of addresses', async () => {
    const { list } = await asAdministrator();
    const { prefix, rows } = await addGroup(7, () => ({}));
    const whole = (await done(system(), list(`?email=${rows[2]?.email.toUpperCase().replace('.COM', '.com')}`))).body;
    assert.deepEqual(idsOf(whole.items), [rows[2]?.id]);
    const pages = await readAll(list, `&email=${prefix.toUpperCase()}`, 3);
    assert.deepEqual(
      pages.map((page) => page.length),
      [3, 3, 1],
    );
    assert.deepEqual(idsOf(pages.flat()), idsOf(rows));
    for (const nobody of ['nobody@nowhere.example', '%25', '_', 'group_', "' or 1=1 --", '\u007f', 'é']) {
      const { items } = (await done(system(), list(`?email=${encodeURIComponent(nobody)}`))).body;
      assert.deepEqual(items, [], nobody);
    }
  });

  test('the beginning of an address with signs that other collations ignore is found', async () => {
    const { list } = await asAdministrator();
    const emails = ['a-b.c+1@example.com', 'a.b@example.com', 'ab@example.com', 'a_b@example.com', 'a-c@example.com'];
    const { rows } = await addGroup(5, (index) => ({ email: `zz${emails[index]}` }));
    const found = async (email: string) =>
      idsOf((await done(system(), list(`?email=${encodeURIComponent(email)}`))).body.items);
    const starting = (email: string) =>
      idsOf(rows.filter((row) => row.email.startsWith(email)).toSorted((a, b) => (a.email < b.email ? -1 : 1)));
    for (const email of ['zza', 'zza-', 'zza-b', 'zza-b.c+', 'zza.', 'zza_', 'zzab', 'zza-b.c+1@', 'zz']) {
      assert.deepEqual(await found(email), starting(email), email);
    }
  });

  test('every combination of filters gives exactly those who fit all of them', async () => {
    const { list } = await asAdministrator();
    const statuses = ['active', 'disabled', 'invited'] as const;
    const role = await makeRole(system(), []);
    const { prefix, rows } = await addGroup(24, (index) => ({ status: statuses[index % 3] ?? 'active' }));
    const holders = rows.filter((_, index) => index % 2 === 0);
    for (const { id } of holders) await giveRole(system(), id, role);
    await giveRole(system(), rows[1]?.id ?? '', 'admin');
    for (const email of [undefined, prefix]) {
      for (const status of [undefined, ...statuses]) {
        for (const name of [undefined, role]) {
          const query = [email && `email=${email}`, status && `status=${status}`, name && `role=${name}`];
          const pages = await readAll(list, query.map((part) => (part ? `&${part}` : '')).join(''), 5);
          const listed = new Set(idsOf(pages.flat()));
          assert.equal(listed.size, pages.flat().length, 'each once');
          const expected = rows.filter(
            (row, index) => (status === undefined || row.status === status) && (name === undefined || index % 2 === 0),
          );
          const ours = new Set(idsOf(rows));
          assert.deepEqual([...listed].filter((id) => ours.has(id)).sort(), idsOf(expected).sort(), query.join(' '));
          if (email !== undefined || name !== undefined) assert.equal(listed.size, expected.length);
          for (const user of pages.flat()) {
            assert.ok(status === undefined || user.status === status);
            assert.ok(name === undefined || user.roles.includes(name));
          }
        }
      }
    }
    const both = (await done(system(), list(`?email=${rows[1]?.email}`))).body.items;
    assert.deepEqual(both[0].roles, ['admin']);
    assert.deepEqual((await done(system(), list('?role=nothing'))).body, { items: [], next_cursor: null });
  });

  test('a search for few among many ends its page after a thousand, and goes on by its cursor', async () => {
    const { list } = await asAdministrator();
    const { db } = system().deps;
    const role = await makeRole(system(), []);
    const rare = await makeRole(system(), []);
    const { prefix, rows } = await addGroup(1_100, () => ({}));
    await db
      .insertInto('user_roles')
      .values(rows.map(({ id }) => ({ user_id: id, role_name: role })))
      .execute();
    // The last one of either order is the only one that fits. Ids of one moment are in no order.
    const lowest = rows.map(({ id }) => id).sort()[0] ?? '';
    const last = rows.at(-1)?.id ?? '';
    await db.updateTable('users').set({ status: 'disabled' }).where('id', '=', lowest).execute();
    await giveRole(system(), last, rare);
    const searches = { [`&role=${role}&status=disabled`]: lowest, [`&email=${prefix}&role=${rare}`]: last };
    for (const [query, found] of Object.entries(searches)) {
      const pages = await readAll(list, query, 50);
      assert.deepEqual(pages.map(idsOf), [[], [found]], query);
    }
    await db.deleteFrom('users').where('email', 'like', `${prefix}%`).execute();
  });

  test('a cursor of another list is refused', async () => {
    const { list, sessions } = await asAdministrator();
    const { prefix } = await addGroup(3, () => ({}));
    const errors = [{ path: 'cursor', message: 'is not a cursor of this list' }];
    const byTime = (await done(system(), list('?limit=1'))).body.next_cursor;
    const byAddress = (await done(system(), list(`?limit=1&email=${prefix}`))).body.next_cursor;
    const user = await registerUser(system());
    const wrong = [list(`?email=${prefix}&cursor=${byTime}`), list(`?cursor=${byAddress}`)];
    wrong.push(sessions(user.id, `?cursor=${byAddress}`), list(`?role=user&cursor=${byAddress}`));
    for (const request of wrong) await assertRefused(system(), request, 'validation_failed', { errors });
  });

  test('no page shows more than a user may have', async () => {
    const { list } = await asAdministrator();
    await registerUser(system());
    const { items } = (await done(system(), list('?limit=200'))).body;
    const fields = ['created_at', 'email', 'id', 'last_login_at', 'locale', 'metadata', 'name', 'roles', 'status'];
    for (const item of items) assert.deepEqual(Object.keys(item).sort(), [...fields, 'updated_at']);
  });
});
