import { once } from 'node:events';
import { linkSync, unlinkSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { type ExportOptions, exportUsers } from '../users/export-flow.ts';
import type { FileFormat } from '../users/import-records.ts';
import { CommandFailedError } from './command-failed.ts';
import { withDeps } from './open-deps.ts';
import { createPrivateFile } from './private-file.ts';

type Options = { format?: FileFormat; output?: string; withHashes?: true };

const progressIntervalMs = 2_000;

// Lines of at most 80 characters, as Commander makes them.
const explanation = `
Every user is one line with all fields that "users import" reads, so that a file
can be given back to it. Sessions and known devices are not in it.

With --with-hashes the file holds the password hashes as they are stored. They
can be used only by an installation with the same SECRET_KEY. The file is for its
owner alone (mode 0600); treat it like the database.

In CSV a cell that a spreadsheet would take for a formula begins with an
apostrophe, and the column spreadsheet_safe says so; an import takes it away.

Examples:
  npm run cli -- users export --output users.ndjson
  npm run cli -- users export --format csv > users.csv`;

/** Adds `export` to `users`: writes all users in the form that an import reads. */
export function addUsersExport(users: Command): void {
  users
    .command('export')
    .summary('write all users to a file')
    .description('Writes all users as NDJSON or CSV.')
    .addOption(new Option('--format <format>', 'what to write (default: by the ending)').choices(['ndjson', 'csv']))
    .option('--output <file>', 'a new file (default: standard output)')
    .option('--with-hashes', 'with the password hashes; needs --output')
    .addHelpText('after', explanation)
    .action(async ({ format, output, withHashes }: Options, command: Command) => {
      if (withHashes === true && output === undefined) {
        command.error('--with-hashes needs --output: password hashes belong into no log and no scroll-back.');
      }
      const byEnding = output?.toLowerCase().endsWith('.csv') ? 'csv' : 'ndjson';
      const options = { format: format ?? byEnding, withHashes: withHashes === true } as const;
      const users = output === undefined ? await writeToOutput(options) : await writeToFile(output, options);
      if (output === undefined) return;
      console.log(`Wrote ${users.toLocaleString('en')} users to ${output}.`);
      if (options.withHashes)
        console.error('It holds password hashes: keep it as safe as the database, and remove it.');
    });
}

/** Written beside its place first, so that an export that was cut off never looks like a whole one. */
async function writeToFile(path: string, options: ExportOptions): Promise<number> {
  const draft = `${path}.partial`;
  const file = await createPrivateFile(draft, '--output');
  try {
    const users = await write(options, file.write).finally(file.close);
    linkSync(draft, path);
    return users;
  } catch (error) {
    const isThere = (error as NodeJS.ErrnoException).code === 'EEXIST';
    throw isThere ? new CommandFailedError(`--output: ${path} is there already, and is not replaced.`) : error;
  } finally {
    unlinkSync(draft);
  }
}

function writeToOutput(options: ExportOptions): Promise<number> {
  // Whoever reads it has had enough, as `head` has. There is nobody left to tell.
  process.stdout.on('error', () => process.exit(1));
  return write(options, async (text) => {
    if (!process.stdout.write(text)) await once(process.stdout, 'drain');
  });
}

function write(options: ExportOptions, put: (text: string) => Promise<void>): Promise<number> {
  return withDeps(async (deps) => {
    let written = 0;
    let shownAtMs = performance.now();
    for await (const { text, users } of exportUsers(deps, options)) {
      await put(text);
      written += users;
      if (performance.now() - shownAtMs < progressIntervalMs) continue;
      shownAtMs = performance.now();
      console.error(`${written.toLocaleString('en')} users`);
    }
    return written;
  });
}
