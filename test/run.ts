import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
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

// A test that spins never reaches its own time limit, so the whole run has one.
const runLimitMs = Number(process.env.TEST_RUN_LIMIT_MS ?? 20 * 60_000);
const outOfTime = AbortSignal.timeout(runLimitMs);

// These say how long something may take. The first wait for a server that is away and hardly compute; the others have
// the machine to two files at a time.
const waiting = ['test/faults/{postgres,redis,smtp,mail,start-order,readiness}*.test.ts'];
const timed = [
  'test/faults/{audit,connections,flood,guessing,kill,memory,pgbouncer,sqlite}.test.ts',
  'test/{image,login-storm,process,stopping,two-instances-limits,two-instances-starts}.test.ts',
];
const phases =
  positionals.length > 0
    ? [{ files: positionals, concurrency: 2 }]
    : [
        { files: listFiles(['src/**/*.test.ts', 'test/**/*.test.ts'], [...waiting, ...timed]), concurrency: 4 },
        { files: listFiles(waiting, []), concurrency: 4 },
        { files: listFiles(timed, []), concurrency: 2 },
      ];
for (const { files, concurrency } of phases) {
  const code = await runFiles(files, concurrency);
  if (code !== 0) process.exitCode = code;
}

function listFiles(patterns: readonly string[], without: readonly string[]): string[] {
  const others = new Set(globSync(without));
  return globSync(patterns).filter((file) => !others.has(file));
}

async function runFiles(files: readonly string[], concurrency: number): Promise<number> {
  if (outOfTime.aborted) return 1;
  const args = ['--test', `--test-concurrency=${concurrency}`, '--test-timeout=120000', ...files];
  const child = spawn(process.execPath, args, {
    stdio: 'inherit',
    env: {
      ...process.env,
      FOUND_BACKENDS: [...found].join(','),
      // Every file is a process of its own, and many start the program: what is compiled once need not be again.
      NODE_COMPILE_CACHE: join(import.meta.dirname, '../node_modules/.cache/compiled'),
    },
  });
  const end = () => {
    console.error(`the tests did not end within ${runLimitMs / 1000} seconds`);
    child.kill('SIGKILL');
  };
  outOfTime.addEventListener('abort', end);
  const [code] = await once(child, 'exit');
  outOfTime.removeEventListener('abort', end);
  return code ?? 1;
}
