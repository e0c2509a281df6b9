import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { findBackends, postgresUrl, redisUrl, requireBackends } from './backends.ts';

/** `npm test`: says which back ends it found, then runs every test on all of them. Arguments are test files. */
const { positionals } = parseArgs({ allowPositionals: true });
const found = await findBackends();
console.log(`back ends: ${[...found].join(', ')}`);
if (!found.has('postgres')) console.log(`  PostgreSQL does not answer at ${postgresUrl}; set TEST_POSTGRES_URL`);
if (!found.has('redis')) console.log(`  Redis does not answer at ${redisUrl}; set TEST_REDIS_URL`);
requireBackends(found);

const files = positionals.length > 0 ? positionals : ['src/**/*.test.ts', 'test/**/*.test.ts'];
const child = spawn(process.execPath, ['--test', '--test-concurrency=3', '--test-timeout=120000', ...files], {
  stdio: 'inherit',
  env: {
    ...process.env,
    FOUND_BACKENDS: [...found].join(','),
    // Every file is a process of its own, and many start the program: what is compiled once need not be again.
    NODE_COMPILE_CACHE: join(import.meta.dirname, '../node_modules/.cache/compiled'),
  },
});
// A test that spins never reaches its own time limit, so the whole run has one.
const runLimitMs = Number(process.env.TEST_RUN_LIMIT_MS ?? 20 * 60_000);
const watchdog = setTimeout(() => {
  console.error(`the tests did not end within ${runLimitMs / 1000} seconds`);
  child.kill('SIGKILL');
}, runLimitMs);
child.on('exit', (code) => {
  clearTimeout(watchdog);
  process.exitCode = code ?? 1;
});
