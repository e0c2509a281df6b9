import { join } from 'node:path';
import { openDatabase } from '../src/db/database.ts';
import { encodeRequest } from './http-connection.ts';
import { expectStatus, measureLoad } from './load.ts';
import { createInstallation, type Installation, startProgram } from './program.ts';
import { type SeededUser, seedUsers } from './seed.ts';
import { inChains, inTurn, type Subject, type Traffic } from './subject.ts';

export type LatchkeyOptions = {
  backend: Installation['backend'];
  users: number;
  /** The most connections that refresh at once: each has a session of its own. */
  chains: number;
  environment?: Record<string, string>;
};

const samples = 1_000;
// Tokens that refreshes have brought and nobody has used. They outlive a run.
const unseenMax = 20_000;

/** Seeds a database, starts the program on it, and gets access tokens for those who read. */
export async function startLatchkey(options: LatchkeyOptions): Promise<Subject> {
  // Closes in reverse order what was opened so far, also when the start fails halfway.
  const opened = new AsyncDisposableStack();
  try {
    const installation = await createInstallation(options.backend, options.environment);
    opened.defer(installation.remove);
    const environment = databaseOf(installation);
    const { password, sample } = await seedUsers({ environment, users: options.users, samples });
    const program = await startProgram(installation);
    opened.defer(program.stop);
    const { rotating, reading, entering } = divide(sample, options.chains);
    const sessionIds = rotating.map(({ sessionId }) => sessionId);
    const before = await readGenerations(installation, sessionIds);
    const unseen: Reader[] = [];
    const chains = inChains(
      rotating.map(({ refreshToken }) => refreshToken),
      {
        encode: (token) => encodeRefresh(program.origin, token),
        read(reply, connection) {
          expectStatus(reply, 200);
          const body = reply.body.toString('latin1');
          const accessToken = /"access_token":"([^"]+)"/.exec(body)?.[1] ?? '';
          if (unseen.length < unseenMax) unseen.push({ email: rotating[connection]?.email ?? '', accessToken });
          return /"refresh_token":"([^"]+)"/.exec(body)?.[1];
        },
      },
    );
    return {
      server: 'latchkey',
      users: options.users,
      process: program,
      read: createReads(program.origin, await getAccessTokens(program.origin, reading)),
      readFirst: createFirstReads(program.origin, unseen),
      refresh: chains.traffic,
      login: createLogins(program.origin, entering, password),
      async checkRotations() {
        const after = await readGenerations(installation, sessionIds);
        for (const [index, count] of chains.counts().entries()) {
          const rotations = (after[index] ?? Number.NaN) - (before[index] ?? 0);
          if (rotations !== count)
            throw new Error(`${count} refreshes were answered, and the database has ${rotations}`);
        }
      },
      restart: (differently) => startProgram(installation, differently),
      close: () => opened.disposeAsync(),
    };
  } catch (error) {
    await opened.disposeAsync();
    throw error;
  }
}

/** What the seeder is to be given: relative paths of the program begin in its folder, and those of a bench elsewhere. */
function databaseOf({ environment, folder }: Installation): Record<string, string> {
  return { DATABASE_URL: `sqlite:${join(folder, 'latchkey.db')}`, ...environment };
}

/** Different users for different works: a login beyond the cap ends the oldest session of its user. */
function divide(sample: readonly SeededUser[], chains: number) {
  const half = (sample.length + chains) >> 1;
  const parts = {
    rotating: sample.slice(0, chains),
    reading: sample.slice(chains, half),
    entering: sample.slice(half),
  };
  if (sample.length < chains + 2) throw new Error(`${chains} chains of refreshes need more users`);
  return parts;
}

type Reader = { email: string; accessToken: string };

async function getAccessTokens(origin: string, users: readonly SeededUser[]): Promise<Reader[]> {
  const readers: Reader[] = [];
  await measureLoad({
    origin,
    connections: 1,
    requests: users.length,
    next: () => encodeRefresh(origin, users[readers.length]?.refreshToken ?? ''),
    check(reply) {
      expectStatus(reply, 200);
      const { access_token: accessToken } = JSON.parse(reply.body.toString());
      readers.push({ email: users[readers.length]?.email ?? '', accessToken });
    },
  });
  return readers;
}

function createReads(origin: string, readers: readonly Reader[]): Traffic {
  const requests = readers.map(({ accessToken }) => encodeRead(origin, accessToken));
  const expected = readers.map(({ email }) => Buffer.from(`"email":"${email}"`));
  return inTurn(requests, (reply, index) => {
    expectStatus(reply, 200);
    if (!reply.body.includes(expected[index] ?? '')) throw new Error(`another account was read: ${reply.body}`);
  });
}

/** Reads with each token once. */
function createFirstReads(origin: string, unseen: Reader[]): Subject['readFirst'] {
  const underWay: string[] = [];
  return {
    left: () => unseen.length,
    next(connection) {
      const { email, accessToken } = unseen.pop() ?? { email: '', accessToken: '' };
      underWay[connection] = `"email":"${email}"`;
      return encodeRead(origin, accessToken);
    },
    check(reply, connection) {
      expectStatus(reply, 200);
      if (!reply.body.includes(underWay[connection] ?? '')) throw new Error(`another account was read: ${reply.body}`);
    },
  };
}

function encodeRead(origin: string, accessToken: string): Buffer {
  const headers = { authorization: `Bearer ${accessToken}` };
  return encodeRequest(origin, { method: 'GET', path: '/users/me', headers });
}

function createLogins(origin: string, users: readonly SeededUser[], password: string): Traffic {
  const requests = users.map(({ email }) =>
    encodeRequest(origin, { method: 'POST', path: '/auth/login', body: JSON.stringify({ email, password }) }),
  );
  return inTurn(requests, (reply, index) => {
    expectStatus(reply, 200);
    const { user, refresh_token: token } = JSON.parse(reply.body.toString());
    if (user.email !== users[index]?.email || typeof token !== 'string') throw new Error('another was logged in');
  });
}

function encodeRefresh(origin: string, refreshToken: string): Buffer {
  const body = JSON.stringify({ refresh_token: refreshToken });
  return encodeRequest(origin, { method: 'POST', path: '/auth/refresh', body });
}

async function readGenerations(installation: Installation, sessionIds: readonly string[]): Promise<number[]> {
  const database = await openDatabase(databaseOf(installation).DATABASE_URL ?? '', () => {});
  try {
    const query = database.db.selectFrom('sessions').select(['id', 'generation']).where('id', 'in', sessionIds);
    const generations = new Map((await query.execute()).map(({ id, generation }) => [id, Number(generation)]));
    return sessionIds.map((id) => generations.get(id) ?? Number.NaN);
  } finally {
    await database.close();
  }
}
