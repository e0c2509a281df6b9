import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { pino } from 'pino';
import { loadConfig } from '../../src/config.ts';
import { createDeps, type Deps } from '../../src/deps.ts';
import { reasonToSkip, startRedis } from '../faults/servers.ts';
import { type Program, startProgram } from '../program.ts';
import { backends, createScratch, waitUntilReady } from '../system.ts';
import { createSharedClock, type SharedClock } from './clock.ts';
import { type MailServer, openMailServer } from './mail-server.ts';

export type Environment = Record<string, string>;

/** What several instances share: an empty PostgreSQL database, a Redis, a mail server, a clock and a secret. */
export type Surroundings = {
  environment: Environment;
  clock: SharedClock;
  mail: MailServer;
  /** Starts the real program in a process of its own. */
  run(settings?: Environment): Promise<Program>;
  /** Ends every process, and fails if one of them has met an error of its own. */
  close(): Promise<void>;
};

/** Says why there can be no two instances here; false when there can. */
export const reasonForNoTwins = backends.includes('postgres+redis')
  ? reasonToSkip('redis')
  : 'PostgreSQL and Redis are needed';

const deliveryLimitMs = 10_000;
const pollEveryMs = 3;

/** Prepares everything that instances need. */
export async function prepareSurroundings(settings: Environment = {}): Promise<Surroundings> {
  const cleanUp = new AsyncDisposableStack();
  try {
    const scratch = await createScratch('postgres+redis');
    cleanUp.defer(scratch.remove);
    // The program's prefix in Redis is fixed, so in one that others use its keys could not be told apart.
    const redis = await startRedis();
    cleanUp.defer(redis.remove);
    const mail = await openMailServer();
    cleanUp.defer(mail.close);
    const clock = createSharedClock(scratch.environment.DATA_DIR ?? '');
    cleanUp.defer(async () => clock.close());
    const environment = {
      NODE_ENV: 'test',
      PUBLIC_URL: 'http://latchkey.test',
      BCRYPT_COST: '4',
      RATE_LIMITS: 'off',
      SECRET_KEY: randomBytes(48).toString('base64url'),
      SMTP_URL: mail.url,
      ...scratch.environment,
      REDIS_URL: redis.url,
      ...settings,
    };
    const programs: Program[] = [];
    cleanUp.defer(() => stopAll(programs));
    const run = async (further: Environment = {}) => {
      const program = await startProgram({ ...environment, ...clock.environment, ...further });
      programs.push(program);
      return program;
    };
    return { environment, clock, mail, run, close: () => cleanUp.disposeAsync() };
  } catch (error) {
    await cleanUp.disposeAsync();
    throw error;
  }
}

async function stopAll(programs: readonly Program[]): Promise<void> {
  await Promise.all(programs.map((program) => program.stop('SIGTERM')));
  const errors = programs.flatMap((program) => program.output().match(/^.*"level":[56]0.*$/gm) ?? []);
  assert.deepEqual(errors, [], 'no request may fail for a fault of the program');
}

/** Opens a further instance without HTTP in this process, for what tests look up inside and do behind the scenes. */
export async function openDeps({ environment, clock, mail }: Surroundings): Promise<Deps> {
  const deps = await createDeps(loadConfig(environment), { log: pino({ level: 'silent' }), clock });
  if (deps.redis !== undefined) await waitUntilReady(deps);
  const deliverDue = () => waitUntilDelivered(deps);
  return { ...deps, outbox: { ...deps.outbox, deliverDue }, mailbox: mail.mailbox };
}

/** Waits until the instances have delivered everything, which nothing here can be told of. */
async function waitUntilDelivered({ db }: Deps): Promise<void> {
  const giveUpAtMs = performance.now() + deliveryLimitMs;
  for (;;) {
    const { rows } = await sql<{ left: number }>`select count(*) as left from outbox`.execute(db);
    if (Number(rows[0]?.left) === 0) return;
    assert.ok(performance.now() < giveUpAtMs, 'the instances did not deliver what is in the outbox');
    await sleep(pollEveryMs);
  }
}
