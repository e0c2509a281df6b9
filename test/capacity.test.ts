import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fillPage, habits, reckon, renderParts } from '../bench/capacity.ts';
import type { ScalingResults } from '../bench/scaling.ts';

const docs = join(import.meta.dirname, '../docs');
const committed = JSON.parse(readFileSync(join(docs, 'scaling.json'), 'utf8')) as ScalingResults;

const cost = {
  instanceCpuMs: 0,
  balancerCpuMs: 0,
  postgresCpuMs: 0,
  redisCpuMs: 0,
  generatorCpuMs: 0,
  transactions: 0,
  walBytes: 0,
  redisCommands: 0,
  redisBytes: 0,
};
const measurement = { instances: 1, ratePerSecond: 1, p99Ms: 1 } as const;
const results: ScalingResults = {
  machine: { processor: 'a processor', cores: 2, node: 'v26', postgres: '15', nginx: '1.22' },
  users: 1,
  hotShareOfRefreshes: 0.5,
  connectionsToPostgres: 10,
  storageBytes: { user: 1_000, session: 400, device: 200, auditEvent: 1_000 },
  redisBytes: { sessions: { keys: 1, bytes: 500 } },
  measurements: [
    { ...measurement, work: 'me', cost: { ...cost, instanceCpuMs: 0.6, postgresCpuMs: 0.3, transactions: 2 } },
    { ...measurement, work: 'refresh', cost: { ...cost, instanceCpuMs: 1.2, transactions: 2, walBytes: 1_000 } },
    { ...measurement, work: 'login', cost: { ...cost, instanceCpuMs: 240, transactions: 10, walBytes: 10_000 } },
  ],
};

describe('the model of capacity', () => {
  test('rates follow from users and habits, and cores from rates and costs', () => {
    const need = reckon(results, 86_400_000, 'everywhere');
    const perDay = 86_400_000 * habits.activeShare * habits.peakFactor;
    assert.equal(need.readsPerSecond, (perDay * habits.readsPerActiveDay.everywhere) / 86_400);
    assert.equal(need.commitsPerSecond, need.refreshesPerSecond + need.loginsPerSecond);
    const near = (actual: number, expected: number) => assert.ok(Math.abs(actual / expected - 1) < 1e-9, `${actual}`);
    // At 0.6 busy, a rate of 1,000 a second at 0.6 ms takes one core.
    near(need.loopCores, need.readsPerSecond / 1_000 + need.refreshesPerSecond / 500);
    near(need.hashingCores, need.loginsPerSecond * 0.4);
    near(need.postgresCores, need.readsPerSecond / 2_000);
    assert.equal(need.instances, Math.ceil(need.loopCores));
    assert.equal(need.connections, need.instances * 10);
    near(need.hotGigabytes, (86_400_000 * (1_000 + habits.sessionsPerUser * 400 + habits.devicesPerUser * 200)) / 1e9);
  });

  test('however few users there are, two instances are, so that one can be replaced', () => {
    assert.equal(reckon(results, 10, 'here alone').instances, 2);
  });

  test('ten times the users need ten times as much', () => {
    const [few, many] = [reckon(results, 1_000_000, 'here alone'), reckon(results, 10_000_000, 'here alone')];
    for (const part of ['readsPerSecond', 'loopCores', 'postgresCores', 'hotGigabytes', 'auditGigabytes'] as const) {
      assert.ok(Math.abs(many[part] / few[part] - 10) < 1e-9, part);
    }
  });

  test('results without what the model reckons with are refused', () => {
    const withoutLogins = { ...results, measurements: results.measurements.filter(({ work }) => work !== 'login') };
    assert.throws(() => reckon(withoutLogins, 1_000, 'here alone'), /no measurement of login/);
  });
});

describe('docs/scaling.md', () => {
  test('its tables are those that the committed results make', () => {
    const page = readFileSync(join(docs, 'scaling.md'), 'utf8');
    assert.equal(fillPage(page, renderParts(committed)), page, 'run `npm run bench:capacity -- --write`');
  });

  test('a page without the place for a part is refused', () => {
    assert.throws(() => fillPage('<!-- measured -->', { measured: 'x' }), /has no <!-- measured -->/);
  });

  test('a part replaces what stood between its markers, and nothing else', () => {
    const page = 'a\n<!-- model -->\nold\n<!-- end of model -->\nz\n';
    assert.equal(fillPage(page, { model: 'new' }), 'a\n<!-- model -->\n\nnew\n\n<!-- end of model -->\nz\n');
  });
});
