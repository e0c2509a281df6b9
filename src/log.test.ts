import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { captureLog, type LogLine } from '../test/log.ts';
import { createLog } from './log.ts';

const secret = 'canary-5d1f0c2b7a';

async function logged(fields: object): Promise<{ line: LogLine; text: string }> {
  const captured = captureLog();
  const log = await createLog('trace', false, captured);
  log.error(fields, 'it failed');
  return { line: captured.lines()[0] ?? {}, text: captured.text() };
}

describe('an error in the log', () => {
  test('has its type, message, code and stack, and the same of its causes', async () => {
    const cause = Object.assign(new RangeError('the inner reason'), { code: 'ERR_INNER' });
    const { line } = await logged({ err: new Error('the outer reason', { cause }) });
    assert.deepEqual(Object.keys(line.err), ['type', 'message', 'stack', 'cause']);
    assert.equal(line.err.message, 'the outer reason');
    assert.match(line.err.stack, /^Error: the outer reason\n {4}at .+log\.test\.ts:\d+:\d+/);
    const { stack, ...inner } = line.err.cause;
    assert.deepEqual(inner, { type: 'RangeError', message: 'the inner reason', code: 'ERR_INNER' });
    assert.match(stack, /^RangeError: the inner reason\n/);
  });

  test('has nothing else of what hangs on it, however deep', async () => {
    const fields = {
      detail: `Key (email)=(${secret}) already exists.`,
      parameters: [secret],
      input: secret,
      where: secret,
    };
    const inner = Object.assign(new Error('inner'), fields, { query: { values: [secret] } });
    const all = new AggregateError([inner, inner], 'all failed', { cause: inner });
    const { line, text } = await logged({ err: Object.assign(new Error('outer', { cause: all }), fields) });
    assert.ok(!text.includes(secret), text);
    assert.equal(line.err.cause.errors.length, 2);
  });

  const quoting = {
    'the text that is no JSON': () => JSON.parse(`${secret} "${secret}"`),
    'the password of a URL': () => {
      throw new Error(`connect to postgres://latchkey:${secret}@db:5432/latchkey failed`);
    },
    'the arguments of a command that Redis does not know': () => {
      throw new Error(`ERR unknown command 'AUTH', with args beginning with: '${secret}' `);
    },
    'a value that PostgreSQL could not read': () => {
      throw Object.assign(new Error(`invalid input syntax for type integer: "${secret}"`), { code: '22P02' });
    },
    'lines that look like a stack': () => {
      throw new SyntaxError(`wrong "\n    at ${secret} (x.ts:1:1"`);
    },
  };
  for (const [name, act] of Object.entries(quoting)) {
    test(`does not repeat ${name}`, async () => {
      try {
        act();
        assert.fail('it must throw');
      } catch (err) {
        const { line, text } = await logged({ err });
        assert.ok(!text.includes(secret) && !text.includes(secret.slice(0, 10)), text);
        assert.ok(line.err.message.length > 5, text);
      }
    });
  }

  test('is bounded, however long its message and however deep its causes', async () => {
    let error = new Error('x'.repeat(100_000));
    for (let depth = 0; depth < 50; depth += 1) error = new Error('y'.repeat(100_000), { cause: error });
    const { text } = await logged({ err: error });
    assert.ok(text.length < 30_000, `${text.length} characters`);
  });

  test('of something that is no error says only that', async () => {
    for (const err of [secret, { password: secret }, null]) {
      const { text } = await logged({ err });
      assert.ok(!text.includes(secret), text);
    }
  });
});

describe('a field of the log', () => {
  test('with the name of a secret is redacted, at the top and one level down', async () => {
    for (const name of ['password', 'authorization', 'refresh_token', 'METRICS_TOKEN', 'SMTP_URL']) {
      const { text } = await logged({ [name]: secret, inner: { [name]: secret } });
      assert.ok(!text.includes(secret), text);
    }
  });
});
