import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { seedUsers } from '../bench/seed.ts';
import { idAt, scatter } from '../bench/seed-rows.ts';
import { verifyAuditTrail } from '../src/audit/verification.ts';
import { createKeyring } from '../src/crypto/secrets.ts';
import { openDatabase } from '../src/db/database.ts';
import { newSecret } from './passwords.ts';
import { get, post, startProgram } from './program.ts';
import { inScratch } from './scratch.ts';
import { backends } from './system.ts';

const users = 2_000;

describe('the seeder of the benchmarks', () => {
  for (const backend of backends) {
    test(`on ${backend} it makes users who can log in and sessions that can be refreshed`, () =>
      inScratch(async (scratch) => {
        const secret = newSecret();
        const environment: Record<string, string> = { BCRYPT_COST: '4', ...scratch, SECRET_KEY: secret };
        const { password, sample, rows } = await seedUsers({ environment, users, samples: 100 });
        assert.equal(rows.users, users);
        assert.equal(rows.sessions, users * 0.97);
        assert.ok(sample.length >= 95 && sample.length <= 100, `${sample.length} users in the sample`);

        const program = await startProgram(environment);
        for (const { email, userId, refreshToken } of [sample[0], sample[50], sample.at(-1)].filter(
          (one) => one !== undefined,
        )) {
          const refreshed = await post(program, '/auth/refresh', { refresh_token: refreshToken });
          assert.equal(refreshed.status, 200);
          const me = await get(program, '/users/me', refreshed.body.access_token);
          assert.deepEqual([me.body.id, me.body.email], [userId, email]);
          const login = await post(program, '/auth/login', { email, password });
          assert.deepEqual([login.status, login.body.user?.id], [200, userId]);
        }
        await program.stop('SIGTERM');
        await assertAuditTrailIsWhole(environment, secret);
      }, backend));
  }

  test('it fills no database that has users', () =>
    inScratch(async (scratch) => {
      const environment = { BCRYPT_COST: '4', ...scratch, SECRET_KEY: newSecret() };
      await seedUsers({ environment, users: 10 });
      await assert.rejects(seedUsers({ environment, users: 10 }), /has users already/);
    }));

  test('it spreads what follows in time over all users, and over each as often', () => {
    for (const count of [1, 2, 7, 1_000, 1_024]) {
      const times = new Map<number, number>();
      for (let position = 0; position < 3 * count; position += 1) {
        const user = scatter(position, count);
        times.set(user, (times.get(user) ?? 0) + 1);
      }
      assert.equal(times.size, count);
      assert.deepEqual(new Set(times.values()), new Set([3]));
    }
  });

  test('its identifiers are of version 7 and in the order of their times', () => {
    const ids = [0, 1, 1_700_000_000_000, 1_800_000_000_000].map(idAt);
    for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.deepEqual(ids.toSorted(), ids);
  });
});

async function assertAuditTrailIsWhole(environment: Record<string, string>, secret: string): Promise<void> {
  const url = environment.DATABASE_URL ?? `sqlite:${environment.DATA_DIR}/latchkey.db`;
  const database = await openDatabase(url, () => {});
  try {
    const { findings, events } = await verifyAuditTrail(database.db, createKeyring([secret]));
    assert.deepEqual(findings, []);
    assert.ok(events >= 2 * users, `${events} events are sealed`);
  } finally {
    await database.close();
  }
}
