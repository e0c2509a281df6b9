import { Command } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { addAuditList } from './audit-list.ts';
import { addAuditVerify } from './audit-verify.ts';
import { addBackup } from './backup.ts';
import { addCopyDatabase } from './copy-database.ts';
import { addCreateAdmin } from './create-admin.ts';
import { addDoctor } from './doctor.ts';
import { addKeys } from './keys.ts';
import { addMigrate } from './migrate.ts';
import { addOpenApi } from './openapi.ts';
import { addSecret } from './secret.ts';
import { addServe } from './serve.ts';
import { addUsers } from './users.ts';
import { addUsersExport } from './users-export.ts';
import { addUsersImport } from './users-import.ts';

const exitCodesHelp = `
Exit codes: 0 done, 1 failed, 2 arguments not understood, 3 declined, or still
to do (migrate --check).`;

/** Makes the tree of all commands. Each is one file. */
export function createProgram(): Command {
  const program = new Command('latchkey')
    .description(
      'Looks after an installation of Latchkey. It reads the same environment variables as the service, and .env ' +
        'unless NODE_ENV is production.',
    )
    .version(packageJson.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this, or after a command what it does')
    .helpCommand(false)
    .addHelpText('after', exitCodesHelp)
    .showHelpAfterError('(--help says more)')
    .exitOverride();
  addServe(program);
  addMigrate(program);
  addDoctor(program);
  addCreateAdmin(program);
  const users = addUsers(program);
  addUsersImport(users);
  addUsersExport(users);
  const audit = addGroup(
    program,
    'audit',
    'read and verify the events',
    'Reads the events, who did what to whom, and verifies them.',
  );
  addAuditList(audit);
  addAuditVerify(audit);
  addKeys(program);
  addSecret(program);
  addBackup(program);
  addCopyDatabase(program);
  addOpenApi(program);
  return program;
}

/** Adds a name under which several commands stand. */
function addGroup(program: Command, name: string, summary: string, description: string): Command {
  return program.command(name).helpCommand(false).summary(summary).description(description);
}
