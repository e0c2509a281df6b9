import { Migrator } from 'kysely/migration';
import { createInitialMigration } from './migrations/0001-initial.ts';
import { createAccountLifeMigration } from './migrations/0002-account-life.ts';
import type { Db } from './schema.ts';

/** Which of the two databases it is. */
export type DialectName = 'sqlite' | 'postgres';

/** Applies every migration that the database has not seen, in the order of their names, all or none. */
export async function migrateToLatest(db: Db, dialect: DialectName): Promise<void> {
  const migrator = new Migrator({
    db,
    provider: {
      async getMigrations() {
        return {
          '0001-initial': createInitialMigration(dialect),
          '0002-account-life': createAccountLifeMigration(dialect),
        };
      },
    },
  });
  const { error } = await migrator.migrateToLatest();
  if (error !== undefined) throw error;
}
