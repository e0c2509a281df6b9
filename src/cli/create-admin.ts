import type { Command } from 'commander';
import type { Account } from '../account/flow.ts';
import type { Deps } from '../deps.ts';
import { canonicalEmailAddress } from '../email-address.ts';
import { AppError } from '../errors.ts';
import { requireAcceptablePassword } from '../password/flow.ts';
import { administratorRole, firstRole } from '../permissions.ts';
import { assignRoles } from '../users/changes.ts';
import { createActiveUser, createUser } from '../users/flow.ts';
import { CommandFailedError } from './command-failed.ts';
import { exitCodes } from './exit-codes.ts';
import { findUserByAddress } from './find-user.ts';
import { withInstallation } from './installation.ts';
import { timeForJson } from './output.ts';
import { ask, isInteractive, readStandardInput, requireConfirmation } from './terminal.ts';

type Options = { email?: string; name?: string; passwordStdin?: true; invite?: true; yes?: true; json?: true };
type Outcome = 'created' | 'invited' | 'promoted' | 'unchanged';

const operator = { kind: 'operator' } as const;
const roles = [firstRole, administratorRole];
const triesMax = 5;

const explanation = `
On a terminal it asks for the address and, twice and without showing it, for a
password. An empty password, or --invite, sends an invitation by mail instead:
the account is theirs when they register with that address. Where the address
has an account, that one becomes an administrator, after a confirmation.

A password is never an argument, which everybody on the machine could read.

Examples:
  latchkey create-admin
  latchkey create-admin --email ada@example.com --password-stdin < password.txt
  latchkey create-admin --email ada@example.com --invite`;

/** Adds `create-admin`, with which the first administrator comes into being. */
export function addCreateAdmin(program: Command): void {
  program
    .command('create-admin')
    .summary('make an administrator')
    .description('Makes an administrator: a new user, or one who is there already.')
    .option('--email <address>', 'the address (default: asked for)')
    .option('--name <name>', 'the name of a new user')
    .option('--password-stdin', 'read the password from standard input')
    .option('--invite', 'send an invitation by mail instead of setting a password')
    .option('--yes', 'make a user who is there an administrator without being asked')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', explanation)
    .action(async (options: Options, command: Command) => {
      if (options.passwordStdin && options.invite) command.error('--password-stdin and --invite exclude each other.');
      if (options.email === undefined && !isInteractive()) {
        command.error('There is no terminal to ask on: give --email, and --password-stdin or --invite.');
      }
      await withInstallation('first', async (deps) => {
        const email = await chooseAddress(options.email);
        const existing = await findUserByAddress(deps, email);
        const { account, outcome } = await (existing === undefined
          ? makeUser(deps, email, options)
          : promoteUser(deps, existing, options));
        console.log(options.json ? renderJson(account, outcome) : describe(account, outcome));
      });
    });
}

async function chooseAddress(given: string | undefined): Promise<string> {
  for (let tries = 0; tries < triesMax; tries += 1) {
    const typed = given ?? (await ask('E-mail address: ')).trim();
    const email = canonicalEmailAddress(typed);
    if (email !== undefined) return email;
    const fault = `${JSON.stringify(typed)} is not an e-mail address that Latchkey accepts.`;
    if (given !== undefined) throw new CommandFailedError(fault);
    console.error(fault);
  }
  throw new CommandFailedError('Nothing was done.', { exitCode: exitCodes.declined });
}

type Made = { account: Account; outcome: Outcome };

async function makeUser(deps: Deps, email: string, options: Options): Promise<Made> {
  const password = await choosePassword(deps, email, options);
  const input = { email, profile: { ...(options.name !== undefined && { name: options.name }) }, roles };
  if (password !== undefined)
    return { account: await createActiveUser(deps, { ...input, password }), outcome: 'created' };
  return { account: await createUser(deps, operator, input, undefined), outcome: 'invited' };
}

/** Returns undefined where an invitation is to be sent. */
async function choosePassword(deps: Deps, email: string, options: Options): Promise<string | undefined> {
  if (options.passwordStdin) {
    const password = await readStandardInput('The password');
    const fault = findFault(deps, password, email);
    if (fault !== undefined) throw new CommandFailedError(`Nothing was done. ${fault}`);
    return password;
  }
  if (options.invite || !isInteractive()) return undefined;
  const { PASSWORD_MIN_LENGTH } = deps.config.environment;
  console.error(
    `A password of ${PASSWORD_MIN_LENGTH} characters or more; it is not shown. Leave it empty to send an invitation by mail.`,
  );
  for (let tries = 0; tries < triesMax; tries += 1) {
    const password = await ask('Password: ', { isHidden: true });
    if (password === '') return undefined;
    const fault = findFault(deps, password, email);
    if (fault !== undefined) console.error(fault);
    else if ((await ask('The same again: ', { isHidden: true })) === password) return password;
    else console.error('The two are not the same.');
  }
  throw new CommandFailedError('Nothing was done: no password was accepted.', { exitCode: exitCodes.declined });
}

function findFault(deps: Deps, password: string, email: string): string | undefined {
  try {
    requireAcceptablePassword(deps, password, email, '/password');
    return undefined;
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'password_rejected') throw error;
    return `This password cannot be used: it ${error.errors?.[0]?.message ?? 'was rejected'}. Take a longer one, of several words say.`;
  }
}

async function promoteUser(deps: Deps, existing: Account, { passwordStdin, invite, yes }: Options): Promise<Made> {
  const { id, email, status, roles: held } = existing;
  if (passwordStdin || invite) {
    throw new CommandFailedError(
      `Nothing was done: ${email} has an account already, whose password stays as it is. ` +
        `Leave out --${passwordStdin ? 'password-stdin' : 'invite'} to make it an administrator.`,
    );
  }
  if (status === 'disabled') {
    throw new CommandFailedError(`Nothing was done: ${email} is disabled. First: latchkey users enable ${email}`);
  }
  if (held.includes(administratorRole)) return { account: existing, outcome: 'unchanged' };
  const consequence = `${email} has an account already. It gets every permission; its password stays as it is.`;
  await requireConfirmation({ consequence, word: 'promote', yes });
  const account = await assignRoles(deps, operator, id, [...held, administratorRole], undefined);
  return { account, outcome: 'promoted' };
}

function renderJson({ id, email, status, roles: given, createdAtMs }: Account, outcome: Outcome): string {
  return JSON.stringify({ outcome, id, email, status, roles: given, created_at: timeForJson(createdAtMs) });
}

function describe({ id, email }: Account, outcome: Outcome): string {
  const sentences: Record<Outcome, string> = {
    created: `${email} is an administrator and can log in (id ${id}).`,
    invited: `${email} is invited as an administrator (id ${id}). The running service delivers the mail.`,
    promoted: `${email} is an administrator from the next request on (id ${id}).`,
    unchanged: `${email} is an administrator already (id ${id}).`,
  };
  return sentences[outcome];
}
