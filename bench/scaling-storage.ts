import { createClient } from '@redis/client';
import pg from 'pg';
import { redisUrl } from '../test/backends.ts';
import { median } from './statistics.ts';

/** Bytes for each row with its part of the indexes, by table; for an audit event with its part of the seals. */
export type StorageBytes = { user: number; session: number; device: number; auditEvent: number };

/** Measures what the rows of a database take on its disk. */
export async function measureStorage(databaseUrl: string): Promise<StorageBytes> {
  const database = new pg.Client({ connectionString: databaseUrl });
  await database.connect();
  try {
    const sizeOf = async (table: string) => {
      const { rows } = await database.query(
        `select pg_total_relation_size('${table}') as bytes, count(*) as rows from ${table}`,
      );
      return { bytes: Number(rows[0].bytes), rows: Number(rows[0].rows) };
    };
    const [users, roles, sessions] = [await sizeOf('users'), await sizeOf('user_roles'), await sizeOf('sessions')];
    const [devices, events, seals] = [
      await sizeOf('known_devices'),
      await sizeOf('audit_events'),
      await sizeOf('audit_seals'),
    ];
    return {
      user: Math.round((users.bytes + roles.bytes) / users.rows),
      session: Math.round(sessions.bytes / sessions.rows),
      device: Math.round(devices.bytes / devices.rows),
      auditEvent: Math.round((events.bytes + seals.bytes) / events.rows),
    };
  } finally {
    await database.end();
  }
}

/** The median size in Redis of an entry of each kind that is there now. */
export type RedisBytes = Record<string, { keys: number; bytes: number }>;

/** Measures the keys of the service in Redis, by what their names say besides whose they are. */
export async function measureRedisKeys(): Promise<RedisBytes> {
  const client = createClient({ url: redisUrl });
  await client.connect();
  const sizes = new Map<string, number[]>();
  for await (const keys of client.scanIterator({ MATCH: 'latchkey:*', COUNT: 1_000 })) {
    for (const key of keys) {
      const bytes = await client.memoryUsage(key);
      const kind = nameKind(key);
      // It may have expired since.
      if (bytes !== null) sizes.set(kind, [...(sizes.get(kind) ?? []), bytes]);
    }
  }
  client.destroy();
  return Object.fromEntries([...sizes].map(([kind, found]) => [kind, { keys: found.length, bytes: median(found) }]));
}

function nameKind(key: string): string {
  const [kind = ''] = key
    .replace(/^latchkey:/, '')
    .replace(/\{[^}]*\}:?/, '')
    .split(':');
  return kind;
}
