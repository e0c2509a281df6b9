import { CopyRefusedError } from './copy-refusal.ts';
import type { Schema } from './schema.ts';

/** A table that is copied: its columns as PostgreSQL has them, and its primary key, by which rows are put in order. */
export type CopyTable = { name: string; key: readonly string[]; columns: readonly CopyColumn[] };

/** A column with its type in PostgreSQL. */
export type CopyColumn = { name: string; type: string };

/** The cells of one row in the order of the table's columns. Integers are decimal digits, as PostgreSQL sends them. */
export type CopyRow = readonly (string | null)[];

/** A table by its name alone. */
export type TableKey = Pick<CopyTable, 'name' | 'key'>;

const leftOut = 'left out';

// The primary key of every table, and each table after those that it refers to. A table of the schema that is missing
// here does not compile, so that nobody adds one and loses its rows at the next move.
const tables: { [T in keyof Schema]: readonly (keyof Schema[T] & string)[] | typeof leftOut } = {
  roles: ['name'],
  users: ['id'],
  user_roles: ['user_id', 'role_name'],
  sessions: ['id'],
  signing_keys: ['kid'],
  secret_fingerprints: ['fingerprint'],
  outbox: ['id'],
  audit_events: ['id'],
  audit_seals: ['seq'],
  audit_anchors: ['seq'],
  pending_email_changes: ['user_id'],
  known_devices: ['user_id', 'fingerprint'],
  password_failures: ['lane'],
  pending_erasures: ['user_id'],
  // Which instance does a chore, and for the next two minutes: that instance has been stopped.
  leases: leftOut,
};

/** The tables that are copied, in an order that no foreign key minds. */
export const copiedTables: readonly TableKey[] = Object.entries(tables).flatMap(([name, key]) =>
  key === leftOut ? [] : [{ name, key }],
);

/** Every table that a target must not have rows in. The first roles come with the tables and are looked at apart. */
export const tablesThatMustBeEmpty: readonly string[] = Object.keys(tables).filter((name) => name !== 'roles');

/** Those of the source's tables whose rows stay behind: leases, and what another program may have added. */
export function listTablesLeftOut(ofSource: readonly string[]): string[] {
  const copied = new Set(copiedTables.map(({ name }) => name));
  return ofSource.filter((name) => !copied.has(name));
}

// What both databases hold alike. A type that is added later needs a thought about how it crosses.
const knownTypes: ReadonlySet<string> = new Set(['text', 'bigint']);

/** Completes a table with its columns, after a look at whether source and target agree on them. */
export function matchTable(
  { name, key }: TableKey,
  ofSource: readonly string[],
  ofTarget: readonly CopyColumn[],
): CopyTable {
  const [here, there] = [
    ofSource.toSorted().join(', '),
    ofTarget
      .map((column) => column.name)
      .toSorted()
      .join(', '),
  ];
  if (here !== there) {
    throw new CopyRefusedError(`The table ${name} has the columns ${here} in the source, and ${there} in the target.`);
  }
  const strange = ofTarget.find(({ type }) => !knownTypes.has(type));
  if (strange !== undefined) throw new Error(`nobody has said how ${name}.${strange.name} (${strange.type}) is copied`);
  return { name, key, columns: ofTarget };
}

/** Names a row for the operator by its primary key, which holds nothing personal. */
export function nameRow({ name, key, columns }: CopyTable, row: CopyRow): string {
  const cells = key.map((column) => {
    const value = row[columns.findIndex((candidate) => candidate.name === column)];
    return `${column} ${JSON.stringify(value)}`;
  });
  return `the row of ${name} with ${cells.join(' and ')}`;
}
