import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { newId } from '../../src/crypto/ids.ts';
import { inTransaction } from '../../src/db/database.ts';
import { isDatabaseUnavailable } from '../../src/db/failures.ts';
import { logIn, newEmail, openSession, readMe, refresh, registerUser, sendCode, type TestUser } from '../accounts.ts';
import { assertProblem, call, type Reply } from '../client.ts';
import { type System, startSystem } from '../system.ts';
import { type PrivateServer, reasonToSkip, startPostgres } from './servers.ts';

describe('when PostgreSQL fails', { skip: reasonToSkip('postgres') }, () => {
  let server: PrivateServer;
  let system: System;
  let user: TestUser;
  // Logs in again and again, which ends the oldest sessions.
  let visitor: TestUser;

  before(async () => {
    server = await startPostgres();
    system = await startSystem('sqlite+memory', { DATABASE_URL: server.url });
    user = await registerUser(system);
    visitor = await registerUser(system);
  });

  after(async () => {
    // In this order, so that closing never waits for a server that stands still.
    server.thaw();
    await system?.close();
    await server?.remove();
  });

  test('connections that are cut under load cost the requests on them a 503 at most, and then all is well', async () => {
    const load = startLoad(system, user, visitor);
    const owner = await connect(server);
    for (let cut = 0; cut < 40; cut += 1) {
      await cutConnections(owner);
      await sleep(25);
    }
    await owner.end();
    const replies = await load.stop();
    assert.ok(replies.length > 100, `there was load: ${replies.length} requests`);
    assert.deepEqual(replies.filter(isUnexpected).map(describeReply), []);
    assert.ok(
      replies.some(({ status }) => status === 503),
      'the cuts were felt',
    );
    const healed = startLoad(system, user, visitor);
    await sleep(200);
    assert.deepEqual((await healed.stop()).filter(({ status }) => status >= 400).map(describeReply), []);
  });

  test('while the server is stopped every answer is 503, and after its start all is well without a restart', async () => {
    await server.stop();
    const email = newEmail();
    for (const request of listRequests(system, user, visitor))
      assertProblem(await request(), 'temporarily_unavailable');
    assertProblem(await refresh(system, user.refreshToken), 'temporarily_unavailable');
    assertProblem(await sendCode(system, email, 'registration'), 'temporarily_unavailable');
    const live = await Promise.all(['/health/live', '/.well-known/jwks.json', '/health/ready'].map(read));
    assert.deepEqual(
      live.map(({ status }) => status),
      [200, 200, 503],
    );
    await server.start();
    for (const request of listRequests(system, user, visitor)) assert.ok((await request()).status < 300);
    assert.equal((await sendCode(system, email, 'registration')).status, 202, 'the refused attempt was not counted');
    assert.equal((await read('/health/ready')).body.status, 'ready');
  });

  test('a server that stands still is answered for with 503, and what is acknowledged afterwards is kept', async () => {
    const [first, second] = [await openSession(system, user), await openSession(system, user)];
    // Leaves several idle connections, each of which is about to hang.
    await Promise.all(Array.from({ length: 10 }, () => readMe(system, first.accessToken)));
    server.freeze();
    const startedAtMs = performance.now();
    const logOut = (token: string) => call(system, { method: 'POST', path: '/auth/logout', token });
    const hung = [logOut(second.accessToken), refresh(system, second.refreshToken), readMe(system, first.accessToken)];
    const begun = Array.from({ length: 7 }, () =>
      inTransaction(system.deps.db, async () => {}).catch((error) => error),
    );
    const beyondThePool = readMe(system, first.accessToken);
    assert.equal((await read('/health/ready')).status, 503);
    for (const reply of await Promise.all([...hung, beyondThePool])) assertProblem(reply, 'temporarily_unavailable');
    for (const error of await Promise.all(begun)) assert.equal(isDatabaseUnavailable(error), true, String(error));
    const tookMs = performance.now() - startedAtMs;
    assert.ok(tookMs < 12_000, `the last answer took ${tookMs} ms`);
    server.thaw();

    let token = first.refreshToken;
    for (let turn = 1; turn <= 12; turn += 1) {
      const reply = await refresh(system, token);
      assert.equal(reply.status, 200, reply.text);
      token = reply.body.refresh_token;
      assert.equal(await readGeneration(server, token), turn, 'somebody else sees what was acknowledged');
    }
    // Parallel, so that every connection of the pool has its turn.
    const roles = Array.from({ length: 20 }, () => newId());
    const write = (name: string) =>
      system.deps.db.insertInto('roles').values({ name, description: '', permissions: '[]', created_at: 1 }).execute();
    await Promise.all(roles.map(write));
    assert.deepEqual(await listRoles(server, roles), [...roles].sort());
    assert.equal(await countOpenTransactions(server), 0);
  });

  function read(path: string): Promise<Reply> {
    return call(system, { method: 'GET', path });
  }
});

function listRequests(system: System, user: TestUser, visitor: TestUser): (() => Promise<Reply>)[] {
  const token = user.accessToken;
  return [
    () => readMe(system, token),
    () => logIn(system, visitor.email, visitor.password),
    () => call(system, { method: 'PATCH', path: '/users/me', token, body: { name: 'Ada' } }),
    () => sendCode(system, newEmail(), 'registration'),
  ];
}

/** Eight clients that make requests until they are told to stop. */
function startLoad(system: System, user: TestUser, visitor: TestUser): { stop(): Promise<Reply[]> } {
  const replies: Reply[] = [];
  let isStopping = false;
  const clients = Array.from({ length: 8 }, async (_, index) => {
    const requests = listRequests(system, user, visitor);
    for (let turn = index; !isStopping; turn += 1) {
      const request = requests[turn % requests.length];
      if (request !== undefined) replies.push(await request());
    }
  });
  return {
    async stop() {
      isStopping = true;
      await Promise.all(clients);
      return replies;
    },
  };
}

function isUnexpected({ status, body }: Reply): boolean {
  return status >= 400 && !(status === 503 && body.code === 'temporarily_unavailable');
}

function describeReply({ status, text }: Reply): string {
  return `${status} ${text}`;
}

async function connect({ url }: PrivateServer): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url, application_name: 'onlooker' });
  await client.connect();
  return client;
}

async function ask<Row extends pg.QueryResultRow>(server: PrivateServer, text: string, values: unknown[] = []) {
  const client = await connect(server);
  try {
    return (await client.query<Row>(text, values)).rows;
  } finally {
    await client.end();
  }
}

async function cutConnections(client: pg.Client): Promise<void> {
  await client.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where backend_type = 'client backend' and application_name <> 'onlooker'`);
}

async function readGeneration(server: PrivateServer, refreshToken: string): Promise<number> {
  const id = refreshToken.split('.')[1];
  const [row] = await ask<{ generation: string }>(server, 'select generation from sessions where id = $1', [id]);
  return Number(row?.generation);
}

async function listRoles(server: PrivateServer, names: string[]): Promise<string[]> {
  const text = 'select name from roles where name = any($1) order by name';
  return (await ask<{ name: string }>(server, text, [names])).map(({ name }) => name);
}

async function countOpenTransactions(server: PrivateServer): Promise<number> {
  const text = `select pid from pg_stat_activity where state like 'idle in transaction%'`;
  return (await ask(server, text)).length;
}
