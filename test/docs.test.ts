import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { parseEnv } from 'node:util';
import { loadConfig } from '../src/config.ts';
import { ConfigError } from '../src/config-error.ts';
import { environmentSchema, fileVariables } from '../src/config-schema.ts';
import { errorCatalogue } from '../src/errors.ts';
import { call } from './client.ts';
import { type System, startSystem } from './system.ts';

const root = join(import.meta.dirname, '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const codes = Object.keys(errorCatalogue);
const variables = Object.keys(environmentSchema.properties);
const secretKey = 'q7Vf1mX0hJr9Zt3KpWc5Ny8BdLs2Gu6EaTiO4xRv';

describe('the pages about errors', () => {
  let system: System;
  before(async () => {
    system = await startSystem('sqlite+memory');
  });
  after(async () => {
    await system.close();
  });

  test('docs/errors.md has one section for each code of the catalogue, in its order, and no other', () => {
    const sections = [...read('docs/errors.md').matchAll(/^#{2,} (.+)$/gm)].map(([, title]) => title);
    assert.deepEqual(sections, codes);
  });

  test('each section of docs/errors.md says the status, the title, the meaning and the remedy', () => {
    const sections = read('docs/errors.md').split(/^## /m).slice(1);
    for (const [index, { status, title, meaning, remedy }] of Object.values(errorCatalogue).entries()) {
      const section = sections[index] ?? '';
      for (const part of [`${status} ${title}`, meaning, remedy])
        assert.ok(section.includes(part), `${section}: ${part}`);
    }
  });

  test('the page /docs/errors has one element for each code, named by it', async () => {
    const { status, text } = await call(system, { method: 'GET', path: '/docs/errors' });
    assert.equal(status, 200);
    assert.deepEqual(
      [...text.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id),
      codes,
    );
  });

  test('the type of a problem that was answered leads to its section', async () => {
    const problem = await call(system, { method: 'GET', path: '/no-such-path' });
    const type = new URL(problem.body.type);
    const page = await call(system, { method: 'GET', path: type.pathname });
    assert.equal(type.origin, 'http://latchkey.test');
    assert.equal(page.status, 200);
    assert.ok(page.text.includes(` id="${type.hash.slice(1)}"`));
  });

  test('every code of the catalogue is used in the source', () => {
    const files = globSync('src/**/*.ts', { cwd: root, exclude: ['src/errors.ts', 'src/**/*.test.ts'] });
    const source = files.map(read).join('\n');
    const unused = codes.filter((code) => !source.includes(`'${code}'`));
    assert.deepEqual(unused, []);
  });
});

describe('docs/configuration.md', () => {
  const page = read('docs/configuration.md');
  const rows = new Map(
    [...page.matchAll(/^\| `(\w+)` +\| (.+) \|$/gm)].map(([, name = '', cells = '']) => [
      name,
      cells.split(/ (?<!\\)\| /).map((cell) => cell.trim().replaceAll('\\|', '|')),
    ]),
  );
  const namesIn = (sentence: RegExp): string[] => {
    const list = sentence.exec(page)?.[1];
    assert.ok(list, `the page lacks ${sentence}`);
    return [...list.matchAll(/`(\w+)`/g)].map(([, name = '']) => name);
  };

  test('the table has each variable of the schema, in its order, and no other', () => {
    assert.deepEqual([...rows.keys()], variables);
  });

  test('a default that the table gives is the one that the service starts with', () => {
    const environment: Record<string, unknown> = loadConfig({ SECRET_KEY: secretKey }).environment;
    for (const [name, [stated = '']] of rows) {
      const constant = /^`([^`<]+)`(?: \(.+\))?$/.exec(stated)?.[1];
      if (stated === 'none')
        assert.ok(environment[name] === undefined || name === 'SECRET_KEY', `${name} has a default`);
      else if (stated === 'empty') assert.equal(environment[name], '', name);
      else if (constant !== undefined && !variables.includes(constant))
        assert.equal(String(environment[name]), constant);
    }
  });

  test('a number that the table allows is accepted, and the one beyond it is refused', () => {
    const limited = [...rows].flatMap(([name, [, allowed = '']]) => {
      const [, least, most] = /^(\d+) to (\d+)/.exec(allowed) ?? [];
      const isNumber = environmentSchema.properties[name as 'PORT'].type === 'integer';
      return isNumber ? [{ name, least: Number(least), most: Number(most) }] : [];
    });
    assert.ok(limited.length >= 10);
    for (const { name, least, most } of limited) {
      assert.deepEqual(
        [least, most].flatMap((value) => complaintsAbout(name, value)),
        [],
        `${name}: the limits are allowed`,
      );
      for (const value of [least - 1, most + 1])
        assert.equal(complaintsAbout(name, value).length, 1, `${name}: ${value}`);
    }
  });

  test('the words that the table allows are those of the schema', () => {
    for (const [name, property] of Object.entries(environmentSchema.properties)) {
      if (!('anyOf' in property)) continue;
      const words = (property.anyOf as { const: string }[]).map((option) => `\`${option.const}\``);
      assert.equal(rows.get(name)?.[1], words.join(', '));
    }
  });

  test('production does not start without the variables that the page calls required, and asks for no other', () => {
    const required = namesIn(/^Required in production: (.+)\.$/m);
    const refused = problemsOf({ NODE_ENV: 'production' }).filter((problem) => problem.includes('is required'));
    assert.deepEqual(
      refused,
      required.map((name) => `${name} is required in production`),
    );
  });

  test('the variables that may come from a file are those of the service', () => {
    assert.deepEqual(namesIn(/It works for (.+)\.$/m), [...fileVariables]);
  });

  test('every rule between values that the service has is on the page', () => {
    const body = /\nfunction findContradictions[\s\S]+?\n}\n/.exec(read('src/config.ts'))?.[0] ?? '';
    const rules = [...body.matchAll(/push\(\s*(['`])([A-Z].+?)\1/g)].map(([, , rule = '']) => rule);
    assert.ok(rules.length >= 4, 'the rules are no longer where this test looks for them');
    const missing = rules.filter((rule) => {
      const parts = rule.split(/\$\{.+?\}/).map((part) => RegExp.escape(part));
      return !new RegExp(`^- ${parts.join('.+')}$`, 'm').test(page);
    });
    assert.deepEqual(missing, []);
  });
});

describe('.env.example', () => {
  const example = read('.env.example');

  test('sets nothing as it is and names every variable of the schema once, in its order', () => {
    assert.deepEqual(Object.keys(parseEnv(example)), []);
    const names = [...example.matchAll(/^#([A-Z_]+)=/gm)].map(([, name]) => name);
    assert.deepEqual(names, variables);
  });

  test('with every line switched on it is the configuration that an empty environment gives', () => {
    const everyLine = parseEnv(example.replaceAll(/^#(?=[A-Z_]+=)/gm, '')) as Record<string, string>;
    const { environment } = loadConfig({ ...everyLine, SECRET_KEY: secretKey });
    assert.deepEqual(environment, loadConfig({ SECRET_KEY: secretKey }).environment);
  });

  test('holds no secret', () => {
    const everyLine = parseEnv(example.replaceAll(/^#(?=[A-Z_]+=)/gm, ''));
    for (const name of ['SECRET_KEY', 'REDIS_URL', 'SMTP_URL']) assert.equal(everyLine[name], '', name);
    assert.match(example, /openssl rand -base64 48/);
  });
});

function complaintsAbout(name: string, value: number): string[] {
  return problemsOf({ SECRET_KEY: secretKey, [name]: String(value) }).filter((problem) => {
    // Rules between two variables are not about the limits of one.
    return problem.startsWith(`${name} `) && !problem.includes('longer than');
  });
}

function problemsOf(environment: Record<string, string>): readonly string[] {
  try {
    loadConfig(environment);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}
