import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import { type FirebaseParameters, readFirebaseParameters } from '../crypto/firebase-hash.ts';
import { type ImportOptions, type ImportSummary, importUsers } from '../users/import-flow.ts';
import { ImportStoppedError, importReasons, type Refusal } from '../users/import-reasons.ts';
import type { FileFormat } from '../users/import-records.ts';
import { CommandFailedError } from './command-failed.ts';
import { withDeps } from './open-deps.ts';
import { createPrivateFile, type PrivateFile } from './private-file.ts';

type Options = {
  format?: FileFormat;
  dryRun?: true;
  update?: true;
  ignoreUnknown?: true;
  addressesAreProved?: true;
  allowRole: string[];
  unusableHashes: 'refuse' | 'drop';
  firebaseParameters?: string;
  report?: string;
  json?: true;
};

const progressIntervalMs = 2_000;
const shownRefusals = 20;

// Lines of at most 80 characters, as Commander makes them.
const explanation = `
Each line is one user: a JSON object (NDJSON), or a row under a header (CSV).
  email           required
  password_hash   bcrypt, argon2, scrypt, PBKDF2 as passlib, Django, Werkzeug,
                  better-auth or Firebase store them; never a plain password
  email_verified  true or false; false makes an invited account without password
  name, locale, metadata, status, roles, id (a UUID, kept), created_at,
  updated_at, last_login_at

An account that is there is left alone (--update changes its profile, and its
password while nobody has logged in here with it), so the same file can be given
again, also after an import that was cut off. No mail is sent. Latchkey can run
meanwhile. Users log in with their old passwords; the first login replaces the
hash with one of ours.

Exit code 1 when a line was refused; all others are imported then.

Example:
  npm run cli -- users import users.ndjson --addresses-are-proved --dry-run
docs/migrating.md has the whole way from FastAPI, Django, Firebase and others.`;

/** Adds `import` to `users`: brings in the users of another system. */
export function addUsersImport(users: Command): void {
  users
    .command('import')
    .summary('bring in users with their password hashes')
    .description('Imports users from a file, or from standard input.')
    .argument('<file>', 'NDJSON or CSV; - for standard input')
    .addOption(new Option('--format <format>', 'what the file is (default: by its ending)').choices(['ndjson', 'csv']))
    .option('--dry-run', 'do every check and write nothing')
    .option('--update', 'also change accounts that are there')
    .option('--addresses-are-proved', 'vouch for the addresses of lines without email_verified')
    .option('--allow-role <name>', 'let the file give this role, which has permissions (repeatable)', collect, [])
    .option('--ignore-unknown', 'leave out fields that are not known')
    .addOption(
      new Option('--unusable-hashes <how>', 'whose hash cannot be checked: refuse, or import without a password')
        .choices(['refuse', 'drop'])
        .default('refuse'),
    )
    .option('--firebase-parameters <file>', 'the password hash parameters of the Firebase project')
    .option('--report <file>', 'write every refused line with its reason to a new file, as NDJSON')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', explanation)
    .action(async (path: string, options: Options) => {
      const startedAtMs = performance.now();
      const summary = await run(path, options);
      const result = { summary, isDryRun: options.dryRun === true, seconds: (performance.now() - startedAtMs) / 1000 };
      console.log(options.json ? renderJson(result) : renderText(result));
      if (summary.refused === 0) return;
      const where = options.report === undefined ? 'Give --report to have all of them in a file.' : options.report;
      throw new CommandFailedError(`${format(summary.refused)} lines were refused. ${where}`);
    });
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}

async function run(path: string, options: Options): Promise<ImportSummary> {
  const importOptions = readOptions(path, options);
  const source = path === '-' ? process.stdin : await openFile(path);
  const report = options.report === undefined ? undefined : await createPrivateFile(options.report, '--report');
  try {
    return await withDeps((deps) => importUsers(deps, source, importOptions, createObserver(report)));
  } catch (error) {
    throw explainFailure(error, path);
  } finally {
    source.destroy();
    await report?.close();
  }
}

function readOptions(path: string, options: Options): ImportOptions {
  return {
    format: options.format ?? (path.toLowerCase().endsWith('.csv') ? 'csv' : 'ndjson'),
    isDryRun: options.dryRun === true,
    update: options.update === true,
    ignoreUnknown: options.ignoreUnknown === true,
    addressesAreProved: options.addressesAreProved === true,
    dropUnusableHashes: options.unusableHashes === 'drop',
    allowedRoles: options.allowRole,
    firebase: options.firebaseParameters === undefined ? undefined : readParameters(options.firebaseParameters),
  };
}

/** The signer key is a secret of the project, so it comes in a file and not in the arguments. */
function readParameters(path: string): FirebaseParameters {
  const name = '--firebase-parameters';
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw unreadable(`${name}: ${path}`, error);
  }
  const parameters = readFirebaseParameters(text);
  if (parameters !== undefined) return parameters;
  throw new CommandFailedError(
    `${name}: ${path} must hold base64_signer_key, base64_salt_separator, rounds and mem_cost, as the Firebase console ` +
      'shows them under Authentication, Users, Password hash parameters.',
  );
}

async function openFile(path: string) {
  try {
    return (await open(path)).createReadStream();
  } catch (error) {
    throw unreadable(path, error);
  }
}

function explainFailure(error: unknown, path: string): unknown {
  if (error instanceof ImportStoppedError) return new CommandFailedError(error.message, { cause: error });
  return (error as NodeJS.ErrnoException).syscall === 'read' ? unreadable(path, error) : error;
}

function unreadable(path: string, error: unknown): CommandFailedError {
  return new CommandFailedError(`${path} cannot be read (${(error as NodeJS.ErrnoException).code}).`, { cause: error });
}

function createObserver(report: PrivateFile | undefined) {
  const startedAtMs = performance.now();
  let shownAtMs = startedAtMs;
  let shown = 0;
  return {
    async onRefused({ line, reason, email, detail }: Refusal): Promise<void> {
      const entry = { line, email, reason, message: importReasons[reason], detail };
      await report?.write(`${JSON.stringify(entry)}\n`);
      if (report !== undefined || shown === shownRefusals) return;
      shown += 1;
      // Without the address: what a terminal or a build prints is kept by many.
      console.error(`line ${line} ${importReasons[reason]}${detail === undefined ? '' : `: ${detail}`}`);
    },
    onProgress({ lines, refused }: ImportSummary): void {
      const nowMs = performance.now();
      if (nowMs - shownAtMs < progressIntervalMs) return;
      shownAtMs = nowMs;
      const rate = Math.round((lines / (nowMs - startedAtMs)) * 1000);
      console.error(`${format(lines)} lines, ${format(refused)} refused, ${format(rate)} lines a second`);
    },
  };
}

type Result = { summary: ImportSummary; isDryRun: boolean; seconds: number };

function renderJson({ summary, isDryRun, seconds }: Result): string {
  return JSON.stringify({
    dry_run: isDryRun,
    lines: summary.lines,
    imported: summary.imported,
    invited: summary.invited,
    without_password: summary.withoutPassword,
    passwords_left_out: summary.passwordsLeftOut,
    already_there: summary.alreadyThere,
    updated: summary.updated,
    passwords_kept: summary.passwordsKept,
    refused: summary.refused,
    reasons: summary.reasons,
    duration_ms: Math.round(seconds * 1000),
  });
}

function renderText({ summary, isDryRun, seconds }: Result): string {
  const { lines, imported, invited, withoutPassword, passwordsLeftOut, alreadyThere, updated, passwordsKept } = summary;
  const rows: [number, string][] = [
    [imported, isDryRun ? 'would be imported' : 'imported'],
    [invited, '  of them invited: they prove their address first'],
    [withoutPassword, '  of them without a password: they log in with e-mailed codes'],
    [passwordsLeftOut, '  of them with a hash that was left out'],
    [alreadyThere, 'there already'],
    [updated, `  of them ${isDryRun ? 'to be ' : ''}updated`],
    [passwordsKept, '  of them with a password of their own, which was kept'],
    [summary.refused, 'refused'],
    ...Object.entries(summary.reasons).map(([reason, count]): [number, string] => [count, `  ${reason}`]),
  ];
  const width = Math.max(...rows.map(([count]) => format(count).length));
  const shown = rows.filter(([count, text]) => count > 0 || !text.startsWith(' '));
  return [
    `Read ${format(lines)} lines in ${seconds.toFixed(1)} s (${format(Math.round(lines / seconds))} a second):`,
    ...shown.map(([count, text]) => `  ${format(count).padStart(width)} ${text}`),
    ...(isDryRun ? ['That was a rehearsal: nothing was written.'] : []),
  ].join('\n');
}

function format(count: number): string {
  return count.toLocaleString('en');
}
