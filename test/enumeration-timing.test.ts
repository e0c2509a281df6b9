import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { median } from '../bench/statistics.ts';
import { sha256 } from '../src/crypto/secrets.ts';
import { goodPassword, newEmail } from './accounts.ts';
import type { Call } from './client.ts';
import { guess, guessOften, newPlace, tryLogin, wrongPassword } from './guessing.ts';
import { insertAccount, openAnySession, type Subject } from './subjects.ts';
import { type Backend, backends, type System, startSystem } from './system.ts';

/*
 * Nobody may learn from the time of an answer what an address is. One process, one request at a time; in each round
 * every state is asked about once, in an order drawn anew, so that whatever else the machine does meets all alike.
 * `TIMING=1` runs it, and docs/security-measurements.md has its last result.
 */

const samples = Number(process.env.TIMING_SAMPLES ?? 300);
// What computes no hash takes about a millisecond, of which five hundredths need more samples to be seen.
const samplesWithoutHash = 3 * samples;
const warmUpRounds = 30;
const tolerance = 0.05;
// The hash must be nearly all of the time of what computes one, as it is at the cost of production, eight times this.
const cost = '9';
const limitMs = 15 * 60_000;
const skip = process.env.TIMING !== '1' && 'takes minutes; TIMING=1 runs it';

/** Gives a request about a state, with everything ready that must not be timed. */
type Prepare = () => Promise<Call>;

type Series = {
  prepare: Record<string, Prepare>;
  rounds: number;
  /** What is done before each round. */
  beforeRound?: () => Promise<void>;
};

/** Times every state in turn and returns the median of each, in milliseconds. */
async function measure(
  system: System,
  { prepare, rounds, beforeRound = async () => {} }: Series,
): Promise<Map<string, number>> {
  const times = new Map(Object.keys(prepare).map((state) => [state, [] as number[]]));
  for (let round = -warmUpRounds; round < rounds; round += 1) {
    await beforeRound();
    for (const [state, ready] of shuffle(Object.entries(prepare))) {
      const { method, path, body, token } = await ready();
      await nextTurn();
      const startedAtMs = performance.now();
      await system.app.inject({
        method,
        url: path,
        remoteAddress: newPlace().remoteAddress ?? '',
        headers: { 'user-agent': 'a stranger', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
        payload: body as object,
      });
      const tookMs = performance.now() - startedAtMs;
      if (round >= 0) times.get(state)?.push(tookMs);
      // What goes on after the answer must not fall into the time of the next.
      await system.deps.outbox.deliverDue();
    }
  }
  return new Map([...times].map(([state, taken]) => [state, median(taken)]));
}

function shuffle<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, order: Math.random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ item }) => item);
}

/** Asserts that every state took as long as the first, and prints a row for each. */
function assertAlike(t: TestContext, medians: Map<string, number>): void {
  const [[, reference] = ['', 0]] = medians;
  const ratios = [...medians].map(([state, median]) => ({ state, median, ratio: median / reference }));
  for (const { state, median, ratio } of ratios) {
    t.diagnostic(`| ${t.name} | ${state} | ${median.toFixed(2)} ms | ${ratio.toFixed(3)} |`);
  }
  const strange = ratios.filter(({ ratio }) => Math.abs(ratio - 1) > tolerance);
  assert.deepEqual(strange, []);
}

const post = (path: string, body: unknown): Call => ({ method: 'POST', path, body });
const forgedToken = (email: string) => `${sha256(email).slice(0, 22)}.${'A'.repeat(43)}`;

/** An address of nobody. An account is made all the same, so that no question finds the process warmer than another. */
async function unknown(system: System): Promise<Subject> {
  await insertAccount(system, {});
  return { email: newEmail(), password: goodPassword };
}

/** Subjects in states that one question does not change. */
function freshSubjects(system: System): Record<string, () => Promise<Subject>> {
  return {
    'an active account': () => insertAccount(system, {}),
    'an unknown address': () => unknown(system),
    'a disabled account': () => insertAccount(system, { status: 'disabled' }),
    'an invited account': () => insertAccount(system, { status: 'invited', password_hash: null }),
    'an account without a password': () => insertAccount(system, { password_hash: null }),
  };
}

async function timeLogins(system: System): Promise<Series> {
  const throttled = { known: await insertAccount(system, {}), unknown: await unknown(system) };
  const suspended = { known: await insertAccount(system, {}), unknown: await unknown(system) };
  for (const { email } of Object.values(throttled)) await guess(system, email, 20);
  for (const { email } of Object.values(suspended)) await guessOften(system, email, 101);
  const ask = ({ email }: Subject) => post('/auth/login', { email, password: wrongPassword });
  const again = async (subject: Subject) => {
    await insertAccount(system, {});
    return ask(subject);
  };
  const fresh = Object.entries(freshSubjects(system)).map(([state, make]) => [state, async () => ask(await make())]);
  return {
    prepare: {
      ...Object.fromEntries(fresh),
      'an account where guesses have to wait': () => again(throttled.known),
      'an unknown address where they have to': () => again(throttled.unknown),
      'an account whose password is suspended': () => again(suspended.known),
      'an unknown address where it would be': () => again(suspended.unknown),
    },
    rounds: samples,
    async beforeRound() {
      // Past every wait, so that the suspended ones are not throttled too; those that shall wait begin a new one.
      system.clock.advanceSeconds(15 * 60);
      await system.deps.db.deleteFrom('password_failures').where('suspended_at', 'is', null).execute();
      for (const { email } of Object.values(throttled)) await tryLogin(system, email, wrongPassword, newPlace());
    },
  };
}

function timeCodes(system: System, purpose: string): Series {
  const ask = (make: () => Promise<Subject>) => async () =>
    post('/auth/send-code', { email: (await make()).email, purpose });
  const states = Object.entries(freshSubjects(system)).map(([state, make]) => [state, ask(make)]);
  return { prepare: Object.fromEntries(states), rounds: samplesWithoutHash };
}

function timeWrongCodes(system: System): Series {
  const ask = (make: () => Promise<Subject>) => async () => {
    const { email } = await make();
    await system.app.inject({ method: 'POST', url: '/auth/send-code', payload: { email, purpose: 'login' } });
    return post('/auth/verify-code', { email, purpose: 'login', code: 'AAAAAA' });
  };
  const states = Object.entries(freshSubjects(system)).map(([state, make]) => [state, ask(make)]);
  return { prepare: Object.fromEntries(states), rounds: samplesWithoutHash };
}

function timeForgedTokens(system: System, requestFor: (token: string) => Call): Series {
  const states = Object.entries(freshSubjects(system)).map(([state, make]) => [
    state,
    async () => requestFor(forgedToken((await make()).email)),
  ]);
  return { prepare: Object.fromEntries(states), rounds: samplesWithoutHash };
}

async function timeReauthentications(system: System): Promise<Series> {
  const ask = (token: string): Call => ({ ...post('/auth/reauthenticate', { password: wrongPassword }), token });
  const open = async () => openAnySession(system, await insertAccount(system, {}));
  const withoutPassword = async () => {
    const subject = await insertAccount(system, {});
    const token = await openAnySession(system, subject);
    await system.deps.db.updateTable('users').set({ password_hash: null }).where('email', '=', subject.email).execute();
    return token;
  };
  const [plain, without, suspended] = [await open(), await withoutPassword(), await open()];
  const { db } = system.deps;
  const fail = (token: string) =>
    system.app.inject({
      method: 'POST',
      url: '/auth/reauthenticate',
      headers: { authorization: `Bearer ${token}` },
      payload: { password: wrongPassword },
    });
  await db.deleteFrom('password_failures').execute();
  await fail(suspended);
  await db.updateTable('password_failures').set({ failures: 100 }).execute();
  await fail(suspended);
  return {
    prepare: {
      'a wrong password': async () => ask(plain),
      'no password': async () => ask(without),
      'a suspended one': async () => ask(suspended),
    },
    rounds: samples,
    async beforeRound() {
      await db.deleteFrom('password_failures').where('suspended_at', 'is', null).execute();
    },
  };
}

function timeOn(backend: Backend): void {
  describe(`the time of an answer (${backend})`, { skip, timeout: limitMs }, () => {
    const serieses: Record<string, (system: System) => Series | Promise<Series>> = {
      'POST /auth/login': timeLogins,
      'POST /auth/reauthenticate': timeReauthentications,
      'POST /auth/send-code, registration': (system) => timeCodes(system, 'registration'),
      'POST /auth/send-code, login': (system) => timeCodes(system, 'login'),
      'POST /auth/send-code, password_reset': (system) => timeCodes(system, 'password_reset'),
      'POST /auth/verify-code': timeWrongCodes,
      'POST /auth/register': (system) =>
        timeForgedTokens(system, (verification_token) =>
          post('/auth/register', { verification_token, password: goodPassword }),
        ),
      'POST /auth/reset-password': (system) =>
        timeForgedTokens(system, (verification_token) =>
          post('/auth/reset-password', { verification_token, new_password: goodPassword }),
        ),
    };
    for (const [name, begin] of Object.entries(serieses)) {
      test(name, { timeout: limitMs }, async (t) => {
        const RATE_LIMITS = name === 'POST /auth/login' ? 'on' : 'off';
        const system = await startSystem(backend, { BCRYPT_COST: cost, RATE_LIMITS });
        try {
          assertAlike(t, await measure(system, await begin(system)));
        } finally {
          await system.close();
        }
      });
    }
  });
}

for (const backend of backends) timeOn(backend);
