import { createClient } from '@redis/client';
import { sql } from 'kysely';
import type { Deps } from '../../src/deps.ts';

/** Everything that a database holds: what is sealed by us, and the rest. */
export type DatabaseDump = { sealed: string; open: string };

/** Writes down every column of every table. */
export async function dumpDatabase({ db, database }: Pick<Deps, 'db' | 'database'>): Promise<DatabaseDump> {
  const listing =
    database.dialect === 'sqlite'
      ? sql<{ name: string }>`select name from sqlite_schema where type = 'table'`
      : sql<{ name: string }>`select table_name as name from information_schema.tables where table_schema = 'public'`;
  const dump: DatabaseDump = { sealed: '', open: '' };
  for (const { name } of (await listing.execute(db)).rows) {
    const { rows } = await sql<Record<string, unknown>>`select * from ${sql.table(name)}`.execute(db);
    for (const row of rows) {
      for (const [column, value] of Object.entries(row)) {
        const text = Buffer.isBuffer(value) ? value.toString('hex') : String(value);
        dump[column.startsWith('sealed_') ? 'sealed' : 'open'] += `${name}.${column} ${text}\n`;
      }
    }
  }
  return dump;
}

const maxKeys = 100_000;

type Reader = ReturnType<typeof openReader>;

function openReader(url: string) {
  return createClient({ url });
}

/** Writes down every key of Redis with this prefix, and what is in it. */
export async function dumpRedis(url: string, prefix: string): Promise<string> {
  const client = openReader(url);
  client.on('error', () => {});
  await client.connect();
  let dump = '';
  let keys = 0;
  try {
    for await (const batch of client.scanIterator({ MATCH: `${prefix}*`, COUNT: 1_000 })) {
      for (const key of batch) {
        keys += 1;
        if (keys > maxKeys) throw new Error(`Redis has more than ${maxKeys} keys`);
        dump += `${key} ${await readKey(client, key)}\n`;
      }
    }
  } finally {
    client.destroy();
  }
  return dump;
}

async function readKey(client: Reader, key: string): Promise<string> {
  switch (await client.type(key)) {
    case 'string':
      return String(await client.get(key));
    case 'hash':
      return JSON.stringify(await client.hGetAll(key));
    case 'list':
      return JSON.stringify(await client.lRange(key, 0, -1));
    case 'none':
      return '';
    default:
      throw new Error(`${key} has a type that is not dumped`);
  }
}
