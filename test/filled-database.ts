import { type CompiledQuery, sql } from 'kysely';
import { openBulkWriter } from '../bench/bulk-writer.ts';
import { seedUsers } from '../bench/seed.ts';
import { emailOf } from '../bench/seed-rows.ts';
import { newId } from '../src/crypto/ids.ts';
import type { Database } from '../src/db/database.ts';
import type { Db } from '../src/db/schema.ts';
import { newMail, onDatabase } from './database.ts';
import { newSecret } from './passwords.ts';

const users = 20_000;
// So many waiting mails the scrape of the metrics counts, and nothing else reads as much: a page with two filters
// looks at a thousand rows, and a sweep at fewer.
const rowsReadMax = 10_000;

/** Runs a check on PostgreSQL with some twenty thousand rows in every table that grows, and statistics of them. */
export function onFilledDatabase(check: (database: Database, url: string) => Promise<void>): Promise<void> {
  return onDatabase('postgres+redis', async (database, url) => {
    await seedUsers({
      environment: { DATABASE_URL: url, SECRET_KEY: newSecret(), BCRYPT_COST: '4' },
      users,
      auditEventsPerUser: 1,
    });
    const owners = await database.db.selectFrom('users').select('id').execute();
    const writer = await openBulkWriter(url);
    try {
      await writer.write(
        'outbox',
        owners.map(({ id }, at) => ({ ...newMail(id), next_attempt_at: at + 10, expires_at: at + 10 })),
      );
      await writer.write(
        'pending_email_changes',
        owners.map(({ id }, at) => ({ user_id: id, email: emailOf(at), created_at: at, expires_at: at + 10 })),
      );
      await writer.write(
        'password_failures',
        owners.map(({ id }, at) => ({
          lane: newId(),
          user_id: id,
          failures: 1,
          suspended_at: null,
          expires_at: at + 10,
        })),
      );
      await writer.write(
        'pending_erasures',
        owners.map((_, at) => ({ user_id: newId(), created_at: at + 10 })),
      );
      // More than the seeder has sealed; of these no event is.
      const seal = { sealed_at: 1, newest_event_at: 1, event_count: 1, total_count: 1, manifest: '[]', mac: 'mac' };
      const links = { previous_digest: 'digest', digest: 'digest', key_fingerprint: 'key' };
      await writer.write(
        'audit_seals',
        owners.map((_, at) => ({ ...seal, ...links, seq: 10_000 + at })),
      );
      await writer.finish();
    } finally {
      await writer.close();
    }
    await check(database, url);
  });
}

type PlanNode = {
  'Node Type': string;
  'Relation Name'?: string;
  'Actual Rows'?: number;
  'Actual Loops'?: number;
  'Rows Removed by Filter'?: number;
  'Rows Removed by Index Recheck'?: number;
  Plans?: PlanNode[];
};

/**
 * Says what is wrong with how PostgreSQL carries out a query on its tables: a scan of a whole table, or more rows than
 * any answer needs. What the query changes is taken back.
 */
export async function findReading(db: Db, query: CompiledQuery, smallTables: readonly string[]): Promise<string[]> {
  // The plan of an insert of given values is to insert them, and twice they cannot be.
  const isPlain = /^insert into \S+ \([^)]*\) values/.test(query.sql);
  const plan = await explain(db, query, isPlain ? 'format json' : 'analyze, timing off, format json');
  const nodes = flatten(plan).filter(
    ({ 'Relation Name': table }) => table !== undefined && !smallTables.includes(table),
  );
  const scans = nodes.filter((node) => node['Node Type'] === 'Seq Scan');
  const rowsRead = nodes.reduce((sum, node) => sum + countRead(node), 0);
  return [
    ...scans.map((node) => `scans ${node['Relation Name']}: ${query.sql}`),
    ...(rowsRead > rowsReadMax ? [`reads ${rowsRead} rows: ${query.sql}`] : []),
  ];
}

function countRead(node: PlanNode): number {
  const rows =
    (node['Actual Rows'] ?? 0) + (node['Rows Removed by Filter'] ?? 0) + (node['Rows Removed by Index Recheck'] ?? 0);
  return rows * (node['Actual Loops'] ?? 0);
}

function flatten(node: PlanNode): PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(flatten)];
}

async function explain(db: Db, query: CompiledQuery, options: string): Promise<PlanNode> {
  const tx = await db.startTransaction().execute();
  try {
    // The sealing sets it too, for the one statement that needs it.
    if (query.sql.includes('order by "seal_seq"')) await sql`set local enable_sort = off`.execute(tx);
    const explained = { ...query, sql: `explain (${options}) ${query.sql}` };
    const { rows } = await tx.executeQuery<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(explained);
    const plan = rows[0]?.['QUERY PLAN'][0].Plan;
    if (plan === undefined) throw new Error(`there is no plan of ${query.sql}`);
    return plan;
  } finally {
    await tx.rollback().execute();
  }
}
