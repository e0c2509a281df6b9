import { buildApp } from '../src/app.ts';
import type { ApiInstance } from '../src/http/api.ts';
import type { Metrics } from '../src/metrics/metrics.ts';
import { registerUser } from '../test/accounts.ts';
import { startSystem } from '../test/system.ts';
import { median } from './statistics.ts';

/**
 * `npm run bench:metrics`: what counting costs GET /users/me on SQLite. The two sides are one system with two
 * applications, which take turns in one run, because machines are noisy; what counts is the ratio of their medians.
 */
const rounds = 21;
const callsPerRound = 2_000;
const clients = 32;

const system = await startSystem('sqlite+memory');
const { accessToken } = await registerUser(system);
const silent = Object.fromEntries(Object.keys(system.deps.metrics).map((name) => [name, () => {}])) as never as Metrics;
const sides = { without: await buildApp({ ...system.deps, metrics: silent }), with: system.app };
const rates: Record<keyof typeof sides, number[]> = { without: [], with: [] };
for (let round = 0; round < rounds; round += 1) {
  for (const side of round % 2 === 0 ? (['without', 'with'] as const) : (['with', 'without'] as const)) {
    const rate = await measure(sides[side]);
    // The first round warms up.
    if (round > 0) rates[side].push(rate);
  }
}
const [without, counted] = [median(rates.without), median(rates.with)];
const figures = `${without.toFixed(0)}/s without metrics, ${counted.toFixed(0)}/s with them`;
console.log(`GET /users/me: ${figures}: ratio ${(counted / without).toFixed(2)}`);
await sides.without.close();
await system.close();

async function measure(app: ApiInstance): Promise<number> {
  const headers = { authorization: `Bearer ${accessToken}` };
  let left = callsPerRound;
  const startedAtMs = performance.now();
  const client = async () => {
    while (left > 0) {
      left -= 1;
      const { statusCode } = await app.inject({ method: 'GET', url: '/users/me', headers });
      if (statusCode !== 200) throw new Error(`GET /users/me answered ${statusCode}`);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return callsPerRound / ((performance.now() - startedAtMs) / 1000);
}
