import { type Stats, statfsSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { inspectPostgres, inspectSqlite, type PostgresFacts } from '../db/inspection.ts';
import type { MigrationState } from '../db/migrate.ts';
import { describeTransportRisk } from '../db/postgres-url.ts';
import { inspectMigrations } from '../db/upgrade.ts';
import { explainDatabaseFault } from '../start-error.ts';
import { checkClock } from './clock-skew.ts';
import { type Finding, ok, problem, skipped, warning } from './finding.ts';

const oldestPostgres = 15;
const sqlitePrefix = 'sqlite:';
const mebibyte = 1024 * 1024;
const littleSpaceBytes = 1024 * mebibyte;
const noSpaceBytes = 100 * mebibyte;
const others = 0o077;

/** What the checks of the database found; its rows can be read where the tables are as this version wants them. */
export type DatabaseLook = { findings: Finding[]; hasRows: boolean };

/** Looks at the database: whether it answers, what it is, whether its tables are up to date. */
export async function checkDatabase(url: string, maxConnections: number | undefined): Promise<DatabaseLook> {
  const findings: Finding[] = [];
  try {
    findings.push(...(url.startsWith(sqlitePrefix) ? checkSqlite(url) : await checkPostgres(url, maxConnections)));
    if (findings.some(({ check, state }) => check === 'database' && state === 'skipped'))
      return { findings, hasRows: false };
    const { finding, hasRows } = judgeMigrations(await inspectMigrations(url));
    return { findings: [...findings, finding], hasRows };
  } catch (error) {
    // What was found until then still tells where to look.
    return {
      findings: [...findings, judgeFault(findings.length === 0 ? 'database' : 'migrations', error)],
      hasRows: false,
    };
  }
}

function judgeFault(check: string, error: unknown): Finding {
  const words = error instanceof Error ? error.message : String(error);
  const sentences = explainDatabaseFault(error) ?? `DATABASE_URL: ${words.replace(/\.?$/, '.')}`;
  // They say what is wrong and then what to do.
  const [what = sentences, ...remedy] = sentences.split(/(?<=\.) (?=[A-Z])/);
  return problem(check, {
    what,
    why: 'Without the database nobody can log in, and every request but those for the public keys is answered 503.',
    remedy: remedy.join(' ') || 'Look at the log of the database.',
  });
}

function judgeMigrations({ applied, pending }: MigrationState): { finding: Finding; hasRows: boolean } {
  if (pending.length === 0) {
    return { finding: ok('migrations', `All ${applied.length} migrations are applied.`), hasRows: true };
  }
  const isNew = applied.length === 0;
  const remedy = `${isNew ? 'Run' : 'Back up the database, then run'}: latchkey migrate (the next start does it too, as a user who may).`;
  const what = `${pending.length} of ${applied.length + pending.length} migrations are pending: ${pending.join(', ')}.`;
  const why = isNew
    ? 'There are no tables yet: the first start makes them.'
    : 'This version needs them; it brings them up to date when it starts, which an older version may not expect.';
  return { finding: warning('migrations', { what, why, remedy }), hasRows: false };
}

function checkSqlite(url: string): Finding[] {
  const facts = inspectSqlite(url);
  if (facts === undefined) {
    return [skipped('database', `There is no file ${url.slice(sqlitePrefix.length)} yet; the first start makes it.`)];
  }
  const { path, version, journalMode } = facts;
  const findings = [ok('database', `SQLite ${version}, ${path}.`), checkPrivacy('database_file', path)];
  if (journalMode !== 'wal') {
    findings.push(
      warning('database_journal', {
        what: `The SQLite file is in the journal mode ${journalMode}, not WAL.`,
        why: 'Reads would wait for every write. A restored backup is like this until the first start; else the file system cannot do it.',
        remedy: 'Start Latchkey. If it stays so, put the file on a local disk: WAL does not work over a network.',
      }),
    );
  } else findings.push(ok('database_journal', 'The write-ahead log is on.'));
  findings.push(checkSpace(path));
  return findings;
}

/** Whether a file and the folder that it is in are for their owner alone, and the owner is who runs this. */
export function checkPrivacy(check: string, path: string): Finding {
  const entries = [path, dirname(resolve(path))].map((place) => ({ place, stats: statSync(place) }));
  // Whoever may only look into a folder gets no further than the file lets them.
  const [file] = entries;
  const open = entries.filter(({ place, stats }) => (stats.mode & (place === path ? others : 0o022)) !== 0);
  if (open.length > 0) {
    const named = open.map(({ place, stats }) => `${place} (${showMode(stats)})`);
    return problem(check, {
      what: `Other users of this machine can get at ${named.join(' and ')}.`,
      why: 'It holds password hashes, sessions and signing keys, or what opens them.',
      remedy: `chmod ${open.map(({ place }) => `${place === path ? 600 : 700} ${place}`).join('; chmod ')}`,
    });
  }
  const uid = process.getuid?.();
  if (uid !== undefined && uid !== 0 && file !== undefined && file.stats.uid !== uid) {
    return warning(check, {
      what: `${path} belongs to user ${file.stats.uid}, and this is user ${uid}.`,
      why: 'The service may be able to read it and not to write it.',
      remedy: 'Run this command as the user that the service runs as, or give the file to that user.',
    });
  }
  return ok(check, `${path} is for its owner alone.`);
}

function showMode({ mode }: Stats): string {
  return (mode & 0o777).toString(8).padStart(4, '0');
}

function checkSpace(path: string): Finding {
  const { bavail, bsize } = statfsSync(dirname(resolve(path)));
  return judgeSpace(path, bavail * bsize);
}

/** Whether so many bytes are enough for a database that is written to. */
export function judgeSpace(path: string, free: number): Finding {
  const what = `${Math.floor(free / mebibyte).toLocaleString('en')} MiB are free on the disk of ${path}.`;
  if (free >= littleSpaceBytes) return ok('disk', what);
  const trouble = {
    what,
    why: 'When the disk is full every write is refused with 503: nobody can log in or refresh.',
    remedy: 'Make room, or move DATA_DIR to a larger disk while the service is stopped.',
  };
  return free < noSpaceBytes ? problem('disk', trouble) : warning('disk', trouble);
}

async function checkPostgres(url: string, maxConnections: number | undefined): Promise<Finding[]> {
  const facts = await inspectPostgres(url);
  return [
    ...checkServer(facts),
    checkTransport(url, facts),
    ...(maxConnections === undefined ? [] : [checkConnections(facts, maxConnections)]),
    checkClock('PostgreSQL', facts.clockAheadMs, facts.clockErrorMs),
  ];
}

function checkServer({ version, majorVersion, encoding, takesWrites, isSuperuser }: PostgresFacts): Finding[] {
  const findings: Finding[] = [];
  const add = (what: string, why: string, remedy: string, state = problem) =>
    findings.push(state('database', { what, why, remedy }));
  if (majorVersion < oldestPostgres) {
    add(`PostgreSQL is version ${version}.`, `Latchkey is made for ${oldestPostgres} or newer.`, 'Upgrade the server.');
  }
  if (encoding !== 'UTF8') {
    add(
      `The database has the encoding ${encoding}.`,
      'Names and other text that it cannot hold would be refused.',
      "Make a new database with encoding 'UTF8' and move the data with pg_dump.",
    );
  }
  if (!takesWrites) {
    add('PostgreSQL takes no writes.', 'On a standby nobody can log in.', 'Name the primary in DATABASE_URL.');
  }
  if (isSuperuser) {
    add(
      'The user of DATABASE_URL is a superuser of PostgreSQL.',
      'Whoever gets at this process gets at every database of the server, and at its files.',
      'Use the two users of docs/least-privilege.sql.',
      warning,
    );
  }
  return findings.length > 0 ? findings : [ok('database', `PostgreSQL ${version}, ${encoding}.`)];
}

function checkTransport(url: string, { isEncrypted }: PostgresFacts): Finding {
  const risk = describeTransportRisk(url);
  if (risk === undefined) {
    return ok(
      'database_tls',
      isEncrypted
        ? 'The connection is encrypted.'
        : 'Not encrypted: it stays on this machine, or sslmode=disable says so.',
    );
  }
  return warning('database_tls', {
    what: risk,
    why: 'Password hashes, sessions and the password of the database cross the network readable or to whoever answers.',
    remedy: 'Add sslmode=verify-full to DATABASE_URL, and sslrootcert for a private authority.',
  });
}

function checkConnections(facts: PostgresFacts, maxConnections: number): Finding {
  const { maxConnections: ofServer, usedConnections, connectionLimitOfUser } = facts;
  const limit = Math.min(ofServer, connectionLimitOfUser ?? ofServer);
  const what =
    `DATABASE_POOL_MAX is ${maxConnections}, the server takes ${ofServer}` +
    (connectionLimitOfUser === undefined ? '' : ` (this user ${connectionLimitOfUser})`) +
    `, and ${usedConnections} are in use.`;
  const why = 'An instance that gets no connection answers 503, or does not start.';
  const remedy = 'Raise the limit there, or lower DATABASE_POOL_MAX; all instances together must stay below it.';
  if (maxConnections + 1 > limit) return problem('connections', { what, why, remedy });
  if (usedConnections > ofServer * 0.8) return warning('connections', { what, why, remedy });
  return ok('connections', what);
}
