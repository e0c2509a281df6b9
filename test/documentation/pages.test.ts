import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, test } from 'node:test';
import { type Command, CommanderError } from 'commander';
import { createProgram } from '../../src/cli/program.ts';

const root = join(import.meta.dirname, '../..');
const pages = globSync('**/*.md', { cwd: root, exclude: ['**/node_modules/**', 'data/**', '**/coverage/**'] });
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

/** What a page says outside of its blocks of code. */
const readProse = (path: string): string => read(path).replaceAll(/^ *```[\s\S]*?^ *```$/gm, '');

/** What a page links to in this repository: a path from the root, and an anchor or nothing. */
function listLinks(path: string): { target: string; anchor: string }[] {
  const hrefs = [...readProse(path).matchAll(/\]\(([^)\s]+)\)/g)].map(([, href = '']) => href);
  return hrefs
    .filter((href) => !/^[a-z]+:/.test(href))
    .map((href) => {
      const [file = '', anchor = ''] = href.split('#');
      return { target: file === '' ? path : normalize(join(dirname(path), file)).replace(/\/$/, ''), anchor };
    });
}

/** The anchors that GitHub gives to the headings of a page. */
function listAnchors(path: string): Set<string> {
  const headings = [...readProse(path).matchAll(/^#+ (.+)$/gm)].map(([, title = '']) => title);
  const words = (title: string) => title.replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1').toLowerCase();
  return new Set(
    headings.map((title) =>
      words(title)
        .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

describe('the links of the pages', () => {
  for (const path of pages) {
    test(`${path} leads to files and headings that are there`, () => {
      const broken = listLinks(path).filter(({ target, anchor }) => {
        if (!existsSync(join(root, target))) return true;
        return anchor !== '' && target.endsWith('.md') && !listAnchors(target).has(anchor);
      });
      assert.deepEqual(broken, []);
    });
  }

  test('reach every page from the README', () => {
    const reached = new Set<string>();
    const follow = (path: string): void => {
      if (reached.has(path)) return;
      reached.add(path);
      if (path.endsWith('.md')) for (const { target } of listLinks(path)) follow(target);
    };
    follow('README.md');
    assert.deepEqual(
      pages.filter((path) => !reached.has(path)),
      [],
    );
  });
});

describe('the commands of the pages', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };

  test('every script of npm that a page names is there', () => {
    const named = pages.flatMap((path) =>
      [...read(path).matchAll(/\bnpm run (?:-s )?([a-z][\w:-]*)/g)].map(([, script = '']) => ({ path, script })),
    );
    assert.ok(named.length > 20);
    assert.deepEqual(
      named.filter(({ script }) => scripts[script] === undefined),
      [],
    );
  });

  test('every command of Latchkey that a page shows is understood by its program, with these options', () => {
    const shown = pages.flatMap(listCommands);
    assert.ok(shown.length > 60, `only ${shown.length} commands were found`);
    const notUnderstood = shown.flatMap(({ path, words }) => {
      const complaint = complaintAbout(words);
      return complaint === undefined ? [] : [`${path}: ${words.join(' ')}: ${complaint}`];
    });
    assert.deepEqual(notUnderstood, []);
  });

  test('a command with an option that is not there, or without its argument, is not understood', () => {
    for (const words of [['backup'], ['users', 'disable', 'a', '--force'], ['keys', 'rotat'], ['nothing']])
      assert.ok(complaintAbout(words), words.join(' '));
  });
});

/** Commands in blocks of shell, and whole commands in the text that begin with the name of the program. */
function listCommands(path: string): { path: string; words: string[] }[] {
  const blocks = [...read(path).matchAll(/^ *```(?:sh|bash|console)\n([\s\S]*?)^ *```$/gm)].map(
    ([, text = '']) => text,
  );
  const lines = blocks.flatMap((text) => text.replaceAll(/\\\n\s*/g, '').split('\n'));
  const inline = [...readProse(path).matchAll(/`([^`\n]+)`/g)].map(([, text = '']) => text);
  const substituted = lines.flatMap((line) =>
    [...line.matchAll(/\$\(((?:npm|npx|latchkey) [^|)]*)/g)].map(([, text = '']) => text),
  );
  return [...lines, ...substituted, ...inline].flatMap((text) => {
    // What the shell would put in is one word.
    const line = text.replaceAll(/\$\([^)]*\)/g, '_');
    const found = /(?:^|[\s$(;|&])(?:npm run (?:-s )?cli --|(?:npx )?latchkey(?: latchkey)?)\s+([a-z][^|;&)]*)/.exec(
      line,
    )?.[1];
    return found === undefined ? [] : [{ path, words: splitWords(found) }];
  });
}

function splitWords(text: string): string[] {
  const command = text
    .replace(/\s#.*$/, '')
    .replace(/\s\d?>>?\s*\S+.*$/, '')
    .replace(/\s<\s+\S+.*$/, '');
  return (command.match(/(?:"[^"]*"|'[^']*'|[^\s"']+)+/g) ?? []).map((word) => word.replaceAll(/["']/g, ''));
}

/** What the program says of the words; undefined where it would run the command. Nothing is run. */
function complaintAbout(words: readonly string[]): string | undefined {
  const program = createProgram();
  silence(program);
  try {
    program.parse(
      words.filter((word) => word !== '…'),
      { from: 'user' },
    );
    return undefined;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return ['commander.help', 'commander.helpDisplayed', 'commander.version'].includes(error.code)
      ? undefined
      : error.message;
  }
}

function silence(command: Command): void {
  command.configureOutput({ writeOut() {}, writeErr() {} }).exitOverride();
  // A group alone is not a command, and asks for one of its own.
  if (command.commands.length === 0) command.action(() => {});
  for (const inner of command.commands) silence(inner);
}
