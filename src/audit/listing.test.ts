import assert from 'node:assert/strict';
import { test } from 'node:test';
import { logIn, registerUser } from '../../test/accounts.ts';
import { administration, done, registerWith } from '../../test/administrators.ts';
import { assertRefused } from '../../test/client.ts';
import { describeOnBackends } from '../../test/system.ts';

type Listed = { id: string; type: string; occurred_at: string; user_id: string | null };

describeOnBackends('the list of audit events', {}, (system) => {
  const asAuditor = async () => administration((await registerWith(system(), ['audit:read'])).accessToken);
  const timeNow = () => new Date(system().clock.now()).toISOString();

  async function readAll(query: string, limit = 3): Promise<Listed[]> {
    const { events } = await asAuditor();
    const items: Listed[] = [];
    let cursor: string | null = null;
    do {
      const after: string = cursor === null ? '' : `&cursor=${cursor}`;
      const { body } = await done(system(), events(`?limit=${limit}&${query}${after}`));
      items.push(...body.items);
      cursor = body.next_cursor;
    } while (cursor !== null);
    return items;
  }

  test('an event says who did what to whom, when, from where and in which request', async () => {
    const user = await registerUser(system());
    const login = await logIn(system(), user.email, 'wrong password');
    const [event] = await readAll(`user_id=${user.id}&type=login.failed`);
    assert.deepEqual(event, {
      id: event?.id,
      type: 'login.failed',
      occurred_at: timeNow(),
      // A wrong password proves nobody.
      actor_id: null,
      user_id: user.id,
      client_address: '127.0.0.1',
      user_agent: 'lightMyRequest',
      request_id: login.body.request_id,
      details: { method: 'password', attempt: 'compared' },
    });
  });

  test('the newest come first, each once, over all pages and with every combination of filters', async () => {
    const user = await registerUser(system());
    const other = await registerUser(system());
    const times: string[] = [];
    for (let round = 0; round < 4; round += 1) {
      system().clock.advanceSeconds(10);
      times.push(timeNow());
      for (const { email, password } of [user, other]) {
        await logIn(system(), email, 'wrong password');
        await logIn(system(), email, password);
      }
    }
    const all = await readAll('', 7);
    assert.deepEqual(
      all,
      all.toSorted((a, b) =>
        a.occurred_at === b.occurred_at ? Number(a.id < b.id) || -1 : a.occurred_at < b.occurred_at ? 1 : -1,
      ),
    );
    assert.equal(new Set(all.map(({ id }) => id)).size, all.length);
    const [since = '', until = ''] = [times[1], times[3]];
    for (const userId of [undefined, user.id]) {
      for (const type of [undefined, 'login.failed']) {
        for (const from of [undefined, since]) {
          for (const to of [undefined, until]) {
            const query = Object.entries({ user_id: userId, type, since: from, until: to })
              .flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]))
              .join('&');
            const expected = (await readAll('', 200)).filter(
              (event) =>
                (userId === undefined || event.user_id === userId) &&
                (type === undefined || event.type === type) &&
                (from === undefined || event.occurred_at >= from) &&
                (to === undefined || event.occurred_at < to),
            );
            // Whoever reads was registered a moment ago, which is an event too.
            const ours = (events: Listed[]) => events.filter((event) => event.occurred_at < timeNow() || userId);
            assert.deepEqual(ours(await readAll(query)), ours(expected), query);
          }
        }
      }
    }
    const inTime = await readAll(`user_id=${user.id}&since=${since}&until=${until}&type=login.failed`);
    assert.equal(inTime.length, 2, 'the beginning is included and the end is not');
  });

  test('a time in another zone means the same moment', async () => {
    const user = await registerUser(system());
    system().clock.advanceSeconds(10);
    await logIn(system(), user.email, user.password);
    const local = `${new Date(system().clock.now() + 2 * 3_600_000).toISOString().slice(0, -1)}+02:00`;
    const found = await readAll(`user_id=${user.id}&since=${encodeURIComponent(local)}`);
    assert.ok(found.length > 0 && found.every(({ occurred_at: at }) => at === timeNow()));
  });

  test('a type that does not exist is refused, and nobody without the permission reads anything', async () => {
    const { events } = await asAuditor();
    const { body } = await done(system(), { ...events(), path: '/openapi.json' });
    const parameters: { name: string; schema: { enum?: string[] } }[] = body.paths['/audit-events'].get.parameters;
    const types = parameters.find(({ name }) => name === 'type')?.schema.enum ?? [];
    assert.ok(types.includes('user.disabled'));
    const errors = [{ path: 'type', message: `must be one of ${types.join(', ')}` }];
    await assertRefused(system(), events('?type=user.unknown'), 'validation_failed', { errors });
    const user = await registerUser(system());
    const own = administration(user.accessToken).events(`?user_id=${user.id}`);
    await assertRefused(system(), own, 'insufficient_permission', { detail: 'This needs audit:read.' });
  });
});
