import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { goodPassword, newEmail } from './accounts.ts';
import { listNiceness } from './processes.ts';
import { get, register, startProgram } from './program.ts';
import { inScratch } from './scratch.ts';
import { until } from './until.ts';

// Half a second a hash: whatever is asked meanwhile is answered before the first login, or has waited for it.
const cost = '13';
const threads = 2;
const queueMax = 1;

describe('a storm of logins', { timeout: 120_000 }, () => {
  test('is refused beyond the queue with 503 and Retry-After, and whoever reads meanwhile is answered first', () =>
    inScratch(async (scratch) => {
      const limits = { HASH_THREADS: String(threads), HASH_QUEUE_MAX: String(queueMax), RATE_LIMITS: 'off' };
      const program = await startProgram({ ...scratch, ...limits, BCRYPT_COST: cost });
      try {
        const email = newEmail();
        const token: string = (await register(program, email, goodPassword)).body.access_token;
        const order: string[] = [];
        const logIn = async () => {
          const response = await fetch(`${program.origin}/auth/login`, {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({ email, password: goodPassword }),
          });
          order.push(`login ${response.status}`);
          return { status: response.status, retryAfter: response.headers.get('retry-after') };
        };
        const admitted = threads + queueMax;
        const storm = Array.from({ length: admitted + 5 }, logIn);
        // Those that are refused are answered at once.
        await until(() => order.length >= 5, 30_000);
        for (let read = 0; read < 5; read += 1) {
          assert.equal((await get(program, '/users/me', token)).status, 200);
        }
        order.push('reads');
        if (process.platform === 'linux') await assertLowered(program.pid, threads);
        const answers = await Promise.all(storm);
        assert.deepEqual(order, [
          ...Array.from({ length: 5 }, () => 'login 503'),
          'reads',
          ...Array.from({ length: admitted }, () => 'login 200'),
        ]);
        for (const { status, retryAfter } of answers) {
          if (status === 503) assert.match(retryAfter ?? '', /^[1-9]\d*$/);
        }
        assert.equal((await get(program, '/users/me', token)).status, 200);
      } finally {
        await program.stop('SIGKILL');
      }
    }));
});

/** The threads that hash have a lower priority, and the event loop the one that it was started with. */
async function assertLowered(pid: number, threads: number): Promise<void> {
  // The second starts when there is work for it, and takes its priority then.
  await until(() => [...listNiceness(pid).values()].filter((value) => value === 10).length === threads);
  assert.ok((listNiceness(pid).get(pid) ?? 10) < 10);
}
