import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type Command, CommanderError } from 'commander';
import { exitCodes } from './exit-codes.ts';
import { createProgram } from './program.ts';

/** Every command that does something, with its full name. */
function listCommands(parent: Command = createProgram(), path = ''): { name: string; command: Command }[] {
  return parent.commands.flatMap((command) => {
    const name = `${path} ${command.name()}`.trim();
    return command.commands.length > 0 ? listCommands(command, name) : [{ name, command }];
  });
}

/** Parses arguments that must be refused before anything is done, and returns what is said about them. */
async function refuse(args: readonly string[]): Promise<string> {
  const program = createProgram();
  const written: string[] = [];
  const listen = (command: Command) => {
    command.configureOutput({ writeErr: (text) => void written.push(text) });
    command.commands.forEach(listen);
  };
  listen(program);
  await assert.rejects(program.parseAsync(args, { from: 'user' }), (error) => {
    assert.ok(error instanceof CommanderError && error.exitCode !== 0, written.join(''));
    return true;
  });
  return written.join('');
}

describe('the tree of commands', () => {
  test('what is not understood is answered with how it is meant', async () => {
    const cases: [string[], RegExp][] = [
      [['keys'], /^Usage: latchkey keys /],
      [['keys', 'lst'], /^error: unknown command 'lst'/],
      [['keys', 'revoke'], /^error: missing required argument 'kid'/],
      [['users', 'list', '--status', 'gone'], /Allowed choices are active, disabled, invited\./],
      [['users', 'list', '--limit', '0'], /It must be a number from 1 to /],
      [['audit', 'list', '--since', 'yesterday'], /It must be a time such as /],
      [['audit', 'list', '--since', '2026-01-31T12:00'], /It must be a time such as /],
      [['create-admin', '--password', 'hunter2'], /^error: unknown option '--password'/],
      [['create-admin', '--email', 'a@b.de', '--password-stdin', '--invite'], /exclude each other/],
      [['backup'], /^error: missing required argument 'file'/],
    ];
    for (const [args, expected] of cases) assert.match(await refuse(args), expected);
  });

  test('every command says what it does, in lines of at most 81 characters, and shows an example', () => {
    for (const { name, command } of listCommands()) {
      const written: string[] = [];
      command.configureOutput({ writeOut: (text) => void written.push(text), getOutHelpWidth: () => 80 });
      command.outputHelp();
      const help = written.join('');
      assert.match(help, /^(?:Examples?|The whole move):/m, `${name} has no example`);
      assert.ok(command.summary() !== '' && command.description() !== '', name);
      const long = help.split('\n').filter((line) => line.length > 81);
      assert.deepEqual(long, [], name);
    }
  });

  test('no option takes a password or a secret', () => {
    for (const { name, command } of listCommands()) {
      for (const option of command.options) {
        const takesValue = option.required || option.optional;
        assert.ok(!(takesValue && /password|secret|token/i.test(option.flags)), `${name} ${option.flags}`);
      }
    }
  });

  test('what destroys can be asked for without a terminal, by --yes', () => {
    const destructive = [
      'users disable',
      'users delete',
      'users set-role',
      'keys rotate',
      'keys revoke',
      'create-admin',
    ];
    const commands = listCommands();
    for (const name of destructive) {
      const found = commands.find((one) => one.name === name);
      assert.ok(
        found?.command.options.some(({ long }) => long === '--yes'),
        name,
      );
    }
  });
});

describe('docs/cli.md', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/cli.md'), 'utf8');
  const sections = new Map(
    page
      .split(/^### /m)
      .slice(1)
      .map((section) => [/^`latchkey ([a-z -]+?)(?: [<[].*)?`/.exec(section)?.[1], section] as const),
  );

  test('has one section for each command and no other', () => {
    assert.deepEqual(
      [...sections.keys()].sort(),
      listCommands()
        .map(({ name }) => name)
        .sort(),
    );
  });

  test('names every option and argument with the words of its help, and no option that is not there', () => {
    for (const { name, command } of listCommands()) {
      const section = sections.get(name) ?? '';
      const listed = [...section.matchAll(/^- `(--[a-z-]+)[^`]*`/gm)].map(([, long]) => long);
      assert.deepEqual(listed.sort(), command.options.map(({ long }) => long).sort(), name);
      for (const { flags, description } of command.options) {
        assert.ok(section.includes(`- \`${flags}\`: ${description}`), `${name} ${flags}`);
      }
      for (const argument of command.registeredArguments) assert.ok(section.includes(argument.description), name);
    }
  });

  test('says what every exit code means', () => {
    for (const code of Object.values(exitCodes)) assert.match(page, new RegExp(`^\\| ${code} +\\|`, 'm'));
  });
});
