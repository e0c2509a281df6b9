import { createClient } from '@redis/client';
import pg from 'pg';
import { redisUrl } from '../test/backends.ts';
import { readCpuSeconds, readCpuSecondsOfEndedChildren, readParent } from '../test/processes.ts';

/** What one request costs in every process that has a part in it, as far as it can be told apart. */
export type Cost = {
  /** Milliseconds of processor time. */
  instanceCpuMs: number;
  balancerCpuMs: number;
  postgresCpuMs: number;
  redisCpuMs: number;
  generatorCpuMs: number;
  /** Transactions of PostgreSQL; a statement by itself is one. */
  transactions: number;
  walBytes: number;
  redisCommands: number;
  redisBytes: number;
};

type Reading = Record<keyof Cost, number>;

/** Reads what has been used so far. */
export type Meters = {
  read(): Promise<Reading>;
  /** Of the updates of sessions since the last reading, those that touched no index (HOT); undefined without any. */
  readHotShare(): Promise<number | undefined>;
  close(): Promise<void>;
};

// The server's processes report what they did at most a second late.
const statisticsDelayMs = 1_200;

/** Opens meters on PostgreSQL, Redis and processes. Nobody else may use that PostgreSQL and that Redis meanwhile. */
export async function openMeters(
  databaseUrl: string,
  pids: { instances(): readonly number[]; balancer(): number | undefined },
): Promise<Meters> {
  const database = new pg.Client({ connectionString: databaseUrl, application_name: 'meters' });
  await database.connect();
  const redis = createClient({ url: redisUrl });
  redis.on('error', () => {});
  await redis.connect();
  let updates = { all: 0, hot: 0 };

  async function readPostgres() {
    await new Promise((resolve) => setTimeout(resolve, statisticsDelayMs));
    const { rows } = await database.query<{ transactions: string; wal: string; pids: number[] }>(
      `select (select xact_commit from pg_stat_database where datname = current_database()) as transactions,
        pg_current_wal_insert_lsn() - '0/0'::pg_lsn as wal,
        (select array_agg(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
          or backend_type in ('walwriter', 'background writer', 'checkpointer')) as pids`,
    );
    const [row] = rows;
    const cpu = sumCpuMs(row?.pids ?? []) + readCpuMsOfEndedSiblings(row?.pids[0]);
    return { transactions: Number(row?.transactions), wal: Number(row?.wal), cpu };
  }

  async function readRedis() {
    const info = await redis.info();
    const value = (name: string) => Number(new RegExp(`^${name}:(.*)$`, 'm').exec(info)?.[1]);
    return {
      cpu: (value('used_cpu_user') + value('used_cpu_sys')) * 1000,
      commands: value('total_commands_processed'),
      bytes: value('total_net_input_bytes') + value('total_net_output_bytes'),
    };
  }

  return {
    async read() {
      const { user, system } = process.cpuUsage();
      const instanceCpuMs = sumCpuMs(pids.instances());
      const balancerCpuMs = sumCpuMs([pids.balancer() ?? []].flat());
      const [postgres, ofRedis] = [await readPostgres(), await readRedis()];
      return {
        instanceCpuMs,
        balancerCpuMs,
        postgresCpuMs: postgres.cpu,
        redisCpuMs: ofRedis.cpu,
        generatorCpuMs: (user + system) / 1000,
        transactions: postgres.transactions,
        walBytes: postgres.wal,
        redisCommands: ofRedis.commands,
        redisBytes: ofRedis.bytes,
      };
    },
    async readHotShare() {
      const { rows } = await database.query<{ all: string; hot: string }>(
        `select n_tup_upd as all, n_tup_hot_upd as hot from pg_stat_user_tables where relname = 'sessions'`,
      );
      const now = { all: Number(rows[0]?.all), hot: Number(rows[0]?.hot) };
      const share = now.all === updates.all ? undefined : (now.hot - updates.hot) / (now.all - updates.all);
      updates = now;
      return share;
    },
    async close() {
      redis.destroy();
      await database.end();
    },
  };
}

/** What was used between two readings, for each of so many requests. */
export function costPerRequest(before: Reading, after: Reading, requests: number): Cost {
  const names = Object.keys(after) as (keyof Cost)[];
  return Object.fromEntries(names.map((name) => [name, (after[name] - before[name]) / requests])) as Cost;
}

function sumCpuMs(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + readCpuSeconds(pid) * 1000, 0);
}

/** What processes have used that the same parent has seen end: an idle connection is closed, and its process with it. */
function readCpuMsOfEndedSiblings(pid: number | undefined): number {
  return pid === undefined ? 0 : readCpuSecondsOfEndedChildren(readParent(pid)) * 1000;
}
