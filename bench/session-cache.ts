import { authenticate } from '../src/sessions/guard.ts';
import { registerUser } from '../test/accounts.ts';
import { type System, startSystem } from '../test/system.ts';
import { median } from './statistics.ts';

/**
 * `npm run bench:session-cache`: what the session cache is worth with the PostgreSQL and the Redis of this machine. The
 * two sides take turns in one run, because machines are noisy; what counts is the ratio of their medians.
 */
const rounds = 15;
const callsPerRound = 2_000;
const clients = 32;
const users = 100;

type Side = { system: System; tokens: readonly string[] };
type Work = { name: string; run(side: Side, token: string): Promise<void> };

const works: readonly Work[] = [
  {
    name: 'the guard alone',
    run: async ({ system }, token) => {
      await authenticate(system.deps, token);
    },
  },
  {
    name: 'GET /users/me',
    run: async ({ system }, token) => {
      const headers = { authorization: `Bearer ${token}` };
      const { statusCode } = await system.app.inject({ method: 'GET', url: '/users/me', headers });
      if (statusCode !== 200) throw new Error(`GET /users/me answered ${statusCode}`);
    },
  },
];

const sides = { off: await prepare('off'), on: await prepare('on') };
try {
  for (const work of works) await compare(work);
} finally {
  await sides.on.system.close();
  await sides.off.system.close();
}

async function prepare(cache: 'on' | 'off'): Promise<Side> {
  const system = await startSystem('postgres+redis', { SESSION_CACHE: cache });
  const tokens: string[] = [];
  for (let user = 0; user < users; user += 1) tokens.push((await registerUser(system)).accessToken);
  return { system, tokens };
}

async function compare(work: Work): Promise<void> {
  const rates: Record<keyof typeof sides, number[]> = { off: [], on: [] };
  for (let round = 0; round < rounds; round += 1) {
    for (const cache of round % 2 === 0 ? (['off', 'on'] as const) : (['on', 'off'] as const)) {
      const rate = await measure(work, sides[cache]);
      // The first round warms up code, connections and cache.
      if (round > 0) rates[cache].push(rate);
    }
  }
  const [off, on] = [median(rates.off), median(rates.on)];
  const figures = `${off.toFixed(0)}/s without, ${on.toFixed(0)}/s with the cache`;
  console.log(`${work.name.padEnd(16)} ${figures}: ratio ${(on / off).toFixed(2)}`);
}

async function measure({ run }: Work, side: Side): Promise<number> {
  let next = 0;
  const startedAtMs = performance.now();
  const client = async () => {
    while (next < callsPerRound) {
      next += 1;
      await run(side, side.tokens[next % users] ?? '');
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return callsPerRound / ((performance.now() - startedAtMs) / 1000);
}
