import { recordEvent } from '../audit/flow.ts';
import { toRfc3339 } from '../clock.ts';
import type { UserRow } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import type { FileFormat } from './import-records.ts';
import { listRolesOfUsers, listUsersAfter } from './import-store.ts';
import { escapeCell, escapeColumn, renderRow } from './spreadsheet.ts';

/** How users are written. */
export type ExportOptions = { format: FileFormat; withHashes: boolean };

/** A piece of the file and how many users it holds. */
export type ExportPiece = { text: string; users: number };

const usersPerRead = 500;

type Cell = string | boolean | null | readonly string[] | Record<string, unknown>;

/**
 * Writes every user in the form that an import reads, in the order of their ids and a few hundred at a time. An event
 * says beforehand that somebody took a copy. Who registers or changes meanwhile may be in it or not.
 */
export async function* exportUsers(deps: Deps, { format, withHashes }: ExportOptions): AsyncGenerator<ExportPiece> {
  const details = { with_hashes: withHashes };
  await recordEvent(deps.db, { type: 'users.exported', userId: null, details }, undefined, deps.clock.now());
  const render = format === 'csv' ? renderCsvRow : renderLine;
  if (format === 'csv') yield { text: renderRow([...listColumns(withHashes), escapeColumn]), users: 0 };
  let after = '';
  for (;;) {
    const users = await listUsersAfter(deps.db, after, usersPerRead);
    const last = users.at(-1);
    if (last === undefined) return;
    const roles = await listRolesOfUsers(
      deps.db,
      users.map(({ id }) => id),
    );
    const namesOf = Map.groupBy(roles, (role) => role.user_id);
    const fields = users.map((user) =>
      toFields(
        user,
        (namesOf.get(user.id) ?? []).map(({ role_name: name }) => name),
        withHashes,
      ),
    );
    yield { text: fields.map(render).join(''), users: users.length };
    after = last.id;
  }
}

function listColumns(withHashes: boolean): string[] {
  const columns = ['id', 'email', 'email_verified', 'name', 'locale', 'metadata', 'status', 'roles'];
  return [...columns, 'created_at', 'updated_at', 'last_login_at', ...(withHashes ? ['password_hash'] : [])];
}

function toFields(user: UserRow, roles: readonly string[], withHashes: boolean): Record<string, Cell> {
  return {
    id: user.id,
    email: user.email,
    email_verified: user.status !== 'invited',
    name: user.name,
    locale: user.locale,
    metadata: JSON.parse(user.metadata) as Record<string, unknown>,
    status: user.status,
    roles,
    created_at: toRfc3339(user.created_at),
    updated_at: toRfc3339(user.updated_at),
    last_login_at: user.last_login_at === null ? null : toRfc3339(user.last_login_at),
    ...(withHashes ? { password_hash: user.password_hash } : {}),
  };
}

function renderLine(fields: Record<string, Cell>): string {
  return `${JSON.stringify(fields)}\n`;
}

function renderCsvRow(fields: Record<string, Cell>): string {
  return renderRow([...Object.values(fields).map((cell) => escapeCell(toText(cell))), 'yes']);
}

function toText(cell: Cell): string {
  if (cell === null) return '';
  return typeof cell === 'string' ? cell : JSON.stringify(cell);
}
