import type { Compilable, CompiledQuery, DialectAdapter, QueryResult } from 'kysely';
import type { Db } from './schema.ts';

type Value = string | number | null;

/** Runs a prepared query with these values. `db` may be a transaction. */
type PreparedQuery<Values, Row> = (db: Db, values: Values) => Promise<QueryResult<Row>>;

/** Stands in a compiled query where a value goes. */
class Placeholder {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  // What computes with a value, or puts it into text, would freeze its first result into the query.
  [Symbol.toPrimitive](): never {
    throw new Error(`the value ${this.name} of a prepared query must be passed on as it is`);
  }
}

/**
 * Makes a query that is built and compiled once for each kind of database and from then on only run: for the few that
 * nearly every request makes, where building and compiling the same text takes longer than SQLite takes to answer.
 * `build` may only pass the values on as parameters: it is called once, with placeholders, so nothing may depend on them.
 */
export function prepareQuery<Values extends Record<string, Value>, Row>(
  build: (db: Db, values: Values) => Compilable<Row>,
): PreparedQuery<Values, Row> {
  // An adapter belongs to one open database, and to all of its transactions.
  const compiledFor = new WeakMap<DialectAdapter, CompiledQuery<Row>>();
  return async (db, values) => {
    const { adapter } = db.getExecutor();
    let compiled = compiledFor.get(adapter);
    if (compiled === undefined) {
      compiled = build(db, placeholders<Values>()).compile();
      compiledFor.set(adapter, compiled);
    }
    const parameters = compiled.parameters.map((parameter) =>
      parameter instanceof Placeholder ? values[parameter.name] : parameter,
    );
    return db.executeQuery<Row>({ ...compiled, parameters });
  };
}

function placeholders<Values extends Record<string, Value>>(): Values {
  const make = (_values: object, name: string | symbol) => new Placeholder(String(name));
  return new Proxy({}, { get: make }) as Values;
}
