import { type Command, Option } from 'commander';
import type { Account } from '../account/flow.ts';
import type { Deps } from '../deps.ts';
import { listRoles } from '../roles/flow.ts';
import { assignRoles, deleteUserByAdministrator, disableUser, enableUser } from '../users/changes.ts';
import { listUsers, type UserPosition } from '../users/search.ts';
import { CommandFailedError } from './command-failed.ts';
import { getNamedUser } from './find-user.ts';
import { withInstallation } from './installation.ts';
import { readCount } from './options.ts';
import { printable, printJsonLines, renderTable, showTime, timeForJson } from './output.ts';
import { requireConfirmation } from './terminal.ts';

const operator = { kind: 'operator' } as const;
const usersPerPage = 200;
const usersShown = 50;

/** Adds `users` and what it does to one of them. Import and export are added to what it returns. */
export function addUsers(program: Command): Command {
  const users = program
    .command('users')
    .helpCommand(false)
    .summary('list, show, disable, enable and delete users, set their roles')
    .description('Looks after users. Each is named by id or e-mail address. Every act is recorded as the operator’s.');
  addList(users);
  addShow(users);
  addDisable(users);
  addEnable(users);
  addDelete(users);
  addSetRole(users);
  return users;
}

type ListOptions = { email?: string; status?: Account['status']; role?: string; limit: number; json?: true };

function addList(users: Command): void {
  users
    .command('list')
    .summary('list users')
    .description('Lists users, the newest first, or by address where one is searched for.')
    .option('--email <text>', 'only those whose address begins so')
    .addOption(new Option('--status <status>', 'only those').choices(['active', 'disabled', 'invited']))
    .option('--role <name>', 'only those who have the role')
    .option('--limit <number>', 'so many at most', readCount, usersShown)
    .option('--json', 'print one JSON object a line')
    .addHelpText(
      'after',
      '\nExamples:\n  latchkey users list --role admin\n  latchkey users list --json --limit 1000000',
    )
    .action(({ json, ...options }: ListOptions) =>
      withInstallation('existing', async (deps) => {
        if (json) {
          await forEachPage(deps, options, (page) => printJsonLines(page.map(toJson)));
          return;
        }
        const accounts: Account[] = [];
        const hasMore = await forEachPage(deps, options, async (page) => void accounts.push(...page));
        console.log(accounts.length === 0 ? 'There is no such user.' : renderList(accounts));
        if (hasMore) console.error(`These are the first ${accounts.length}; --limit shows more.`);
      }),
    );
}

/** Reads page after page, so that a list of any length takes little memory. Returns whether there are more. */
async function forEachPage(
  deps: Deps,
  { email, status, role, limit }: Omit<ListOptions, 'json'>,
  show: (page: readonly Account[]) => Promise<void>,
): Promise<boolean> {
  let after: UserPosition | undefined;
  let left = limit;
  do {
    const page = await listUsers(deps, { email, status, role, limit: Math.min(left, usersPerPage), after });
    await show(page.items);
    left -= page.items.length;
    after = page.next;
  } while (after !== undefined && left > 0);
  return after !== undefined;
}

function renderList(accounts: readonly Account[]): string {
  const rows = accounts.map((account) => [
    account.id,
    account.email,
    account.status,
    account.roles.join(','),
    showTime(account.createdAtMs),
    showTime(account.lastLoginAtMs ?? undefined),
  ]);
  return renderTable(['ID', 'ADDRESS', 'STATUS', 'ROLES', 'MADE', 'LAST LOGIN'], rows);
}

function addShow(users: Command): void {
  users
    .command('show')
    .argument('<user>', 'id or e-mail address')
    .summary('show a user')
    .description('Shows everything about a user but what is secret.')
    .option('--json', 'print it as JSON')
    .addHelpText('after', '\nExample:\n  latchkey users show ada@example.com')
    .action((user: string, { json }: { json?: true }) =>
      withInstallation('existing', async (deps) => {
        const account = await getNamedUser(deps, user);
        console.log(json ? JSON.stringify(toJson(account)) : renderUser(account));
      }),
    );
}

function renderUser(account: Account): string {
  const lines = {
    id: account.id,
    address: account.email,
    status: account.status,
    roles: account.roles.join(', ') || 'none',
    password: account.hasPassword ? 'yes' : 'none: logs in with codes by mail',
    name: account.name ?? '-',
    locale: account.locale ?? '-',
    metadata: JSON.stringify(account.metadata),
    made: showTime(account.createdAtMs),
    changed: showTime(account.updatedAtMs),
    'last login': showTime(account.lastLoginAtMs ?? undefined),
  };
  return Object.entries(lines)
    .map(([name, value]) => `${name.padEnd(12)}${printable(value)}`)
    .join('\n');
}

/** The same names as in the API. */
function toJson(account: Account) {
  return {
    id: account.id,
    email: account.email,
    name: account.name,
    locale: account.locale,
    metadata: account.metadata,
    status: account.status,
    roles: account.roles,
    has_password: account.hasPassword,
    created_at: timeForJson(account.createdAtMs),
    updated_at: timeForJson(account.updatedAtMs),
    last_login_at: timeForJson(account.lastLoginAtMs ?? undefined),
  };
}

function addDisable(users: Command): void {
  users
    .command('disable')
    .argument('<user>', 'id or e-mail address')
    .summary('end every session of a user and let nobody log in as them')
    .description('Disables a user: every session ends at once, and nobody logs in as them until they are enabled.')
    .option('--yes', 'do it without being asked')
    .addHelpText('after', '\nExample:\n  latchkey users disable ada@example.com')
    .action((user: string, { yes }: { yes?: true }) =>
      withInstallation('existing', async (deps) => {
        const { id, email, status } = await getNamedUser(deps, user);
        if (status === 'disabled') return console.log(`${email} is disabled already.`);
        const consequence = `${email} is logged out everywhere and cannot log in any more.`;
        await requireConfirmation({ consequence, word: 'disable', yes });
        await disableUser(deps, operator, id, undefined);
        console.log(`${email} is disabled.`);
      }),
    );
}

function addEnable(users: Command): void {
  users
    .command('enable')
    .argument('<user>', 'id or e-mail address')
    .summary('let a disabled user log in again')
    .description('Lets a disabled user log in again.')
    .addHelpText('after', '\nExample:\n  latchkey users enable ada@example.com')
    .action((user: string) =>
      withInstallation('existing', async (deps) => {
        const { id, email, status } = await getNamedUser(deps, user);
        if (status === 'active') return console.log(`${email} is not disabled.`);
        await enableUser(deps, operator, id, undefined);
        console.log(`${email} can log in again.`);
      }),
    );
}

function addDelete(users: Command): void {
  users
    .command('delete')
    .argument('<user>', 'id or e-mail address')
    .summary('delete a user for good')
    .description('Deletes a user with everything of theirs. Of the events only the id stays. There is no way back.')
    .option('--yes', 'do it without being asked')
    .addHelpText('after', '\nExample:\n  latchkey users delete ada@example.com')
    .action((user: string, { yes }: { yes?: true }) =>
      withInstallation('existing', async (deps) => {
        const { id, email, createdAtMs } = await getNamedUser(deps, user);
        const consequence = `${email} (made ${showTime(createdAtMs)}) is deleted for good, with sessions, roles and profile.`;
        await requireConfirmation({ consequence, word: email, yes });
        await deleteUserByAdministrator(deps, operator, id, undefined);
        console.log(`${email} is deleted.`);
      }),
    );
}

const setRoleExplanation = `
The user has these roles from then on and no others, on their next request. The
role "user" is what everybody begins with.

Examples:
  latchkey users set-role ada@example.com user support
  latchkey users set-role ada@example.com user admin`;

function addSetRole(users: Command): void {
  users
    .command('set-role')
    .argument('<user>', 'id or e-mail address')
    .argument('<roles...>', 'all roles that the user is to have')
    .summary('make these the roles of a user')
    .description('Makes these the roles of a user.')
    .option('--yes', 'do it without being asked')
    .addHelpText('after', setRoleExplanation)
    .action((user: string, roles: string[], { yes }: { yes?: true }) =>
      withInstallation('existing', async (deps) => {
        const { id, email, roles: held } = await getNamedUser(deps, user);
        await requireRoles(deps, roles);
        const lost = held.filter((name) => !roles.includes(name));
        if (lost.length > 0) {
          const consequence = `${email} loses ${lost.join(', ')}.`;
          await requireConfirmation({ consequence, word: 'set', yes });
        }
        const account = await assignRoles(deps, operator, id, roles, undefined);
        console.log(`${email} has ${account.roles.join(', ')}.`);
      }),
    );
}

async function requireRoles(deps: Deps, names: readonly string[]): Promise<void> {
  const known = (await listRoles(deps)).map(({ name }) => name);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown === undefined) return;
  throw new CommandFailedError(`There is no role ${JSON.stringify(unknown)}. There are ${known.join(', ')}.`);
}
