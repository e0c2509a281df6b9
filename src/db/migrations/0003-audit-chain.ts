import { type CreateTableBuilder, sql } from 'kysely';
import type { Migration } from 'kysely/migration';
import type { DialectName } from '../migrate.ts';

/** What the chain over the audit events needs: where each event is sealed, the seals, and where the chain begins. */
export function createAuditChainMigration(dialect: DialectName): Migration {
  const integer = dialect === 'sqlite' ? 'integer' : 'bigint';

  function strict<T extends string, C extends string>(table: CreateTableBuilder<T, C>): CreateTableBuilder<T, C> {
    return dialect === 'sqlite' ? table.modifyEnd(sql`strict`) : table;
  }

  return {
    async up(db) {
      // Null until the sealer has come by, so that writing an event takes no lock and waits for nobody.
      await db.schema.alterTable('audit_events').addColumn('seal_seq', integer).execute();
      // The seal commits to what an erasure blanks by digests with a salt each: where the actor was, and the details, which
      // outlive an actor. A salt goes with what it hides, and the digest alone can then not be guessed back.
      for (const column of [
        'seal_origin_salt',
        'seal_origin_commitment',
        'seal_details_salt',
        'seal_details_commitment',
      ])
        await db.schema.alterTable('audit_events').addColumn(column, 'text').execute();
      await db.schema.createIndex('audit_events_seal').on('audit_events').columns(['seal_seq', 'id']).execute();

      await strict(
        db.schema
          .createTable('audit_seals')
          .addColumn('seq', integer, (column) => column.primaryKey())
          .addColumn('sealed_at', integer, (column) => column.notNull())
          // By which the retention judges, because events of an older version are sealed late.
          .addColumn('newest_event_at', integer, (column) => column.notNull())
          .addColumn('event_count', integer, (column) => column.notNull())
          // Of this seal and all before it, those that the retention has removed included.
          .addColumn('total_count', integer, (column) => column.notNull())
          // The id and digest of each event, so that what is wrong can be named, also what is missing.
          .addColumn('manifest', 'text', (column) => column.notNull())
          .addColumn('previous_digest', 'text', (column) => column.notNull())
          .addColumn('digest', 'text', (column) => column.notNull())
          .addColumn('key_fingerprint', 'text', (column) => column.notNull())
          .addColumn('mac', 'text', (column) => column.notNull()),
      ).execute();

      // One row at most: the last seal that the retention has removed, after which the chain begins.
      await strict(
        db.schema
          .createTable('audit_anchors')
          .addColumn('seq', integer, (column) => column.primaryKey())
          .addColumn('digest', 'text', (column) => column.notNull())
          .addColumn('total_count', integer, (column) => column.notNull())
          .addColumn('removed_at', integer, (column) => column.notNull())
          .addColumn('key_fingerprint', 'text', (column) => column.notNull())
          .addColumn('mac', 'text', (column) => column.notNull()),
      ).execute();
    },
  };
}
