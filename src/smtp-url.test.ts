import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { catchConfigError, newSecret, problemsOf, production } from '../test/config.ts';
import { loadConfig, smtpServer } from './config.ts';

const development = { NODE_ENV: 'development', SECRET_KEY: newSecret() };

function read(SMTP_URL: string, environment: Record<string, string> = production) {
  return smtpServer(loadConfig({ ...environment, SMTP_URL }));
}

describe('SMTP_URL', () => {
  test('names host, port and, percent-encoded, user and password', () => {
    assert.deepEqual(read('smtp://mail.example.com'), {
      host: 'mail.example.com',
      port: 587,
      tls: 'required',
      credentials: undefined,
    });
    assert.deepEqual(read('smtps://a%40b.example:p%3A%2F%3F%23%40%25%C3%BC%20%2B+@mail_relay:2465/'), {
      host: 'mail_relay',
      port: 2465,
      tls: 'implicit',
      credentials: { user: 'a@b.example', password: 'p:/?#@%ü ++' },
    });
    assert.deepEqual([read('smtps://mail.example.com')?.port, read('smtp://mail.example.com:25')?.port], [465, 25]);
    const byAddress = [read('smtp://[2001:db8::1]:25'), read('smtps://[::1]'), read('smtp://192.0.2.1')];
    assert.deepEqual(
      byAddress.map((server) => server?.host),
      ['2001:db8::1', '::1', '192.0.2.1'],
    );
  });

  test('requires TLS in production and with a password, and leaves it off on this machine alone', () => {
    // What the URL says, in production and in development.
    const table: [string, string, string][] = [
      ['smtps://mail.example.com', 'implicit', 'implicit'],
      ['smtps://user:password@localhost', 'implicit', 'implicit'],
      ['smtp://mail.example.com', 'required', 'opportunistic'],
      ['smtp://192.168.1.1', 'required', 'opportunistic'],
      ['smtp://127.0.0.2', 'required', 'opportunistic'],
      ['smtp://localhost.example.com', 'required', 'opportunistic'],
      ['smtp://user:password@mail.example.com', 'required', 'required'],
      ['smtp://user:password@localhost', 'required', 'required'],
      ['smtp://localhost:25', 'off', 'off'],
      ['smtp://127.0.0.1', 'off', 'off'],
      ['smtp://[::1]', 'off', 'off'],
      ['smtp://localhost?tls=required', 'required', 'required'],
      ['smtp://mail.example.com?tls=opportunistic', 'opportunistic', 'opportunistic'],
      ['smtp://mail.example.com/?tls=off', 'off', 'off'],
      ['smtp://user:password@mail.example.com?tls=off', 'off', 'off'],
    ];
    for (const [url, inProduction, inDevelopment] of table) {
      assert.deepEqual([read(url)?.tls, read(url, development)?.tls], [inProduction, inDevelopment], url);
    }
  });

  test('that is absent means that there is no mail server', () => {
    assert.equal(smtpServer(loadConfig(development)), undefined);
  });

  const refused: Record<string, string[]> = {
    'may have one parameter and no other: tls': [
      'smtp://hunter2.example?tls.rejectUnauthorized=false',
      'smtps://user:hunter2@mail.example.com?rejectUnauthorized=false',
      'smtp://hunter2.example?ignoreTLS=true',
      'smtp://hunter2.example?logger=true&debug=true',
      'smtp://hunter2.example?proxy=http://evil.example',
      'smtp://hunter2.example?TLS=off',
      'smtp://hunter2.example?tls=off&tls=required',
      'smtp://hunter2.example?tls=required&x',
    ],
    'may say of tls: required, opportunistic, off': [
      'smtp://hunter2.example?tls',
      'smtp://hunter2.example?tls=hunter2',
      'smtp://hunter2.example?tls=Required',
      'smtp://hunter2.example?tls=implicit',
    ],
    'has a tls parameter, which smtps:// does not need': ['smtps://hunter2.example?tls=off'],
    'names port 465, on which TLS begins at once; write smtps://': ['smtp://hunter2.example:465'],
    'has a path, which means nothing to a mail server': ['smtp://mail.example.com/hunter2'],
    'names a host that is not in ASCII; write its xn-- form': ['smtp://hunter2.bücher.example'],
    'has a user name without a password, or the other way round': [
      'smtp://hunter2@mail.example.com',
      'smtp://:hunter2@mail.example.com',
    ],
    'has a control character in the user name or password': [
      'smtp://user:hunter2%00@mail.example.com',
      'smtp://user%0d%0a:hunter2@mail.example.com',
    ],
    'has a password, which must not go out unencrypted because somebody hid the offer of STARTTLS: say tls=required, or tls=off where the network itself is safe':
      ['smtp://user:hunter2@mail.example.com?tls=opportunistic', 'smtp://user:hunter2@localhost?tls=opportunistic'],
  };
  for (const [words, urls] of Object.entries(refused)) {
    test(`is refused when it ${words.split(/[,;:]/)[0]}, without repeating it`, () => {
      for (const SMTP_URL of urls) {
        for (const environment of [production, development]) {
          assert.deepEqual(problemsOf({ ...environment, SMTP_URL }), [`SMTP_URL ${words}`], SMTP_URL);
          const error = catchConfigError({ ...environment, SMTP_URL });
          assert.doesNotMatch(`${error?.stack}${JSON.stringify(error)}`, /hunter2/);
        }
      }
    });
  }
});
