import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { startProgram } from '../program.ts';
import { createScratch } from '../system.ts';
import { inspect } from './inspection.ts';
import { type Ledger, openLedger } from './ledger.ts';
import { openPostOffice } from './post-office.ts';
import { createRandom } from './random.ts';
import { compareMail, compareRows, type Interrupted, noteInterrupted, settleUnanswered } from './reckoning.ts';
import { readStored, untilMailIsDelivered } from './stored.ts';

/** A program under test with its users, its data, and the books of what it acknowledged. */
export type Trial = {
  ledger: Ledger;
  environment: Environment;
  databaseUrl: string;
  /** Holds everything that was ever acknowledged against the database and the program, and throws at a difference. */
  check(occasion: string): Promise<void>;
  /** How many acts have been acknowledged that left something behind. */
  countWrites(): number;
};

type Environment = Record<string, string> & { DATA_DIR: string };

type TrialOptions = {
  /** What the program is told of its back ends; nothing means SQLite and memory. */
  environment?: Record<string, string>;
  wrapper?: (dataDir: string) => readonly string[];
  /** Whether a mail may arrive more than once. */
  mailMayRepeat?: boolean;
};

const clients = 8;
const seedVariable = 'FAULT_SEED';

/** Runs a trial on data of its own, and leaves nothing behind. */
export async function withTrial(
  t: TestContext,
  { environment: given = {}, wrapper, mailMayRepeat = false }: TrialOptions,
  run: (trial: Trial) => Promise<void>,
): Promise<void> {
  const seed = Number(process.env[seedVariable] ?? randomInt(2 ** 31));
  t.diagnostic(`to repeat the choices of its clients: ${seedVariable}=${seed}`);
  await using resources = new AsyncDisposableStack();
  const scratch = await createScratch('sqlite+memory');
  resources.defer(() => scratch.remove());
  const postOffice = await openPostOffice();
  resources.defer(() => postOffice.close());
  const DATA_DIR = scratch.environment.DATA_DIR ?? '';
  const SECRET_KEY = randomBytes(48).toString('base64');
  const environment: Environment = {
    SECRET_KEY,
    SMTP_URL: postOffice.url,
    // The longest, so that a slow machine does not come near its end.
    REFRESH_REUSE_GRACE_SECONDS: '300',
    NODE_COMPILE_CACHE: join(DATA_DIR, 'compiled'),
    ...given,
    DATA_DIR,
  };
  const databaseUrl = environment.DATABASE_URL ?? `sqlite:${join(DATA_DIR, 'latchkey.db')}`;
  const program = await startProgram(environment, wrapper?.(DATA_DIR));
  const ledger = openLedger({ clients, random: createRandom(seed), postOffice, program });
  resources.defer(async () => void (await ledger.program.stop('SIGKILL')));
  const interrupted: Interrupted = new Map();
  // What was checked before need not be read again each time, but once more at the end.
  let checked = { acts: 0, atMs: 0 };
  const compare = async (occasion: string, { acts, atMs }: typeof checked) => {
    const found = await readStored(databaseUrl, SECRET_KEY, atMs);
    noteInterrupted(interrupted, found);
    settleUnanswered(ledger.acts.slice(acts), found);
    assert.deepEqual(compareRows(ledger, ledger.acts.slice(acts), found), [], occasion);
    return found;
  };
  await run({
    ledger,
    environment,
    databaseUrl,
    async check(occasion) {
      await compare(occasion, checked);
      await inspect(ledger);
      await untilMailIsDelivered(databaseUrl, interrupted);
      const found = await compare(`${occasion}, and the inspection of it`, checked);
      assert.deepEqual(compareMail(ledger, found, interrupted, mailMayRepeat), [], occasion);
      checked = { acts: ledger.acts.length, atMs: Date.now() };
    },
    countWrites: () => ledger.acts.filter(({ outcome, leavesTrace }) => outcome === 'done' && leavesTrace).length,
  });
  await compare('at the end', { acts: 0, atMs: 0 });
}
