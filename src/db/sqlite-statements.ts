import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import type { CompiledQuery, QueryResult } from 'kysely';

// The service has a few dozen queries; the bound only matters if one were built with a varying text.
const maxPreparedStatements = 500;

/** Runs a query on one handle, at once and blocking. */
export type RunStatement = <Row>(query: CompiledQuery) => QueryResult<Row>;

type Prepared = { statement: StatementSync; hasRows: boolean };

/** Creates the way to run queries on one handle, which keeps what it has prepared. */
export function createStatements(database: DatabaseSync): RunStatement {
  const known = new Map<string, Prepared>();

  function prepare(text: string): Prepared {
    const found = known.get(text);
    if (found !== undefined) return found;
    if (known.size >= maxPreparedStatements) known.clear();
    const statement = database.prepare(text);
    // Asking for the columns describes each of them anew, and whether there are any never changes.
    const prepared = { statement, hasRows: statement.columns().length > 0 };
    known.set(text, prepared);
    return prepared;
  }

  return <Row>({ sql: text, parameters }: CompiledQuery): QueryResult<Row> => {
    const { statement, hasRows } = prepare(text);
    // Kysely types parameters as unknown; the schema holds only text, numbers and null.
    const values = parameters as readonly SQLInputValue[];
    if (hasRows) return { rows: statement.all(...values) as Row[] };
    return { rows: [], numAffectedRows: BigInt(statement.run(...values).changes) };
  };
}

/** Says whether a query only reads. In SQLite whatever begins with SELECT does; of the rest nothing is assumed. */
export function isReading({ query, sql: text }: CompiledQuery): boolean {
  return query.kind === 'SelectQueryNode' || (query.kind === 'RawNode' && /^\s*select\b/i.test(text));
}
