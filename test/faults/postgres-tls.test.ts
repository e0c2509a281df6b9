import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { sql } from 'kysely';
import { type Database, openDatabase } from '../../src/db/database.ts';
import { isDatabaseUnavailable, mayPass } from '../../src/db/failures.ts';
import { explainStartError } from '../../src/start-error.ts';
import { type AuthorityFiles, createAuthorityFiles } from '../certificate-files.ts';
import { failStart, startProgram } from '../program.ts';
import { createScratch } from '../system.ts';
import { type PrivateServer, reasonToSkip, startPostgres } from './servers.ts';

type Parameters = Record<string, string>;

// Users are told apart by how pg_hba.conf lets them in; a plain connection has no line.
const access = [
  'hostssl all postgres 127.0.0.1/32 trust',
  'hostssl all with_certificate 127.0.0.1/32 cert',
  'hostssl all with_password 127.0.0.1/32 scram-sha-256',
];

describe('TLS to PostgreSQL', { skip: reasonToSkip('postgres') }, () => {
  let authority: AuthorityFiles;
  let stranger: AuthorityFiles;
  let server: PrivateServer;

  before(async () => {
    [authority, stranger] = [createAuthorityFiles(), createAuthorityFiles()];
    const { certPath, keyPath } = authority.sign('localhost');
    server = await startPostgres({
      settings: ['ssl=on', 'ssl_cert_file=server.crt', 'ssl_key_file=server.key', 'ssl_ca_file=root.crt'],
      access,
      files: {
        'server.crt': readFileSync(certPath, 'utf8'),
        'server.key': readFileSync(keyPath, 'utf8'),
        'root.crt': readFileSync(authority.certPath, 'utf8'),
      },
    });
    await onSocket(`create role with_certificate superuser login;
      create role with_password superuser login password 'correct horse'`);
  });

  after(async () => {
    await server?.remove();
    authority?.remove();
    stranger?.remove();
  });

  for (const sslmode of ['verify-full', 'require', 'verify-ca']) {
    test(`with sslmode=${sslmode} and the right authority is encrypted`, async () => {
      assert.deepEqual(await readTls(urlOf({ sslmode, sslrootcert: authority.certPath })), { ssl: true, user: null });
    });

    test(`with sslmode=${sslmode} refuses the certificate of another authority`, async () => {
      const sentence = await refusalOf(urlOf({ sslmode, sslrootcert: stranger.certPath }));
      assert.match(
        sentence,
        /^DATABASE_URL: the certificate of the server is not to be trusted \(\w+\)\. Name the file/,
      );
    });
  }

  for (const sslmode of ['verify-full', 'require']) {
    test(`with sslmode=${sslmode} refuses a certificate for another host`, async () => {
      const sentence = await refusalOf(urlOf({ sslmode, sslrootcert: authority.certPath }, { host: '127.0.0.1' }));
      assert.equal(
        sentence,
        'DATABASE_URL: the certificate of the server is for another host. Correct the host, or the certificate.',
      );
    });

    test(`with sslmode=${sslmode} and no sslrootcert trusts public authorities alone`, async () => {
      assert.match(await refusalOf(urlOf({ sslmode })), /the certificate of the server is not to be trusted \(\w+\)/);
    });
  }

  test('with sslmode=verify-ca takes any host that the authority has signed for', async () => {
    const url = urlOf({ sslmode: 'verify-ca', sslrootcert: authority.certPath }, { host: '127.0.0.1' });
    assert.deepEqual(await readTls(url), { ssl: true, user: null });
  });

  test('with sslmode=no-verify is encrypted to whoever answers', async () => {
    assert.deepEqual(await readTls(urlOf({ sslmode: 'no-verify' }, { host: '127.0.0.1' })), { ssl: true, user: null });
  });

  for (const parameters of [{}, { sslmode: 'disable' }] as Parameters[]) {
    test(`is named where the server wants it and the URL says ${parameters.sslmode ?? 'nothing'}`, async () => {
      assert.match(
        await refusalOf(urlOf(parameters)),
        /^DATABASE_URL: the server refuses the connection: no pg_hba\.conf entry .+, no encryption\. .+ sslmode=verify-full\.$/,
      );
    });
  }

  test('is named where the URL wants it and the server does not have it', async () => {
    const plain = await startPostgres();
    try {
      const { port } = new URL(plain.url);
      const url = urlOf({ sslmode: 'verify-full', sslrootcert: authority.certPath }, { port });
      assert.equal(
        await refusalOf(url),
        'DATABASE_URL: the server does not offer TLS. Switch it on there (ssl = on), or set sslmode=disable.',
      );
    } finally {
      await plain.remove();
    }
  });

  test('with a client certificate logs in as whom it names, and without one is refused', async () => {
    const { certPath: sslcert, keyPath: sslkey } = authority.sign('with_certificate');
    const verified = { sslmode: 'verify-full', sslrootcert: authority.certPath };
    const user = 'with_certificate';
    assert.deepEqual(await readTls(urlOf({ ...verified, sslcert, sslkey }, { user })), {
      ssl: true,
      user: '/CN=with_certificate',
    });
    assert.match(
      await refusalOf(urlOf(verified, { user })),
      /^DATABASE_URL: the server refuses the connection: connection requires a valid client certificate\. /,
    );
    const unknown = stranger.sign('with_certificate');
    const url = urlOf({ ...verified, sslcert: unknown.certPath, sslkey: unknown.keyPath }, { user });
    // The server's alert and the end of the connection race each other.
    const text = explainStartError(await catchError(openDatabase(url, () => {})), undefined);
    assert.match(text, /DATABASE_URL: (?:TLS with the server failed \(ERR_SSL_\w+\)|PostgreSQL does not answer)/);
  });

  test('with a certificate that is renewed on disk needs no restart, and takes up no half of one', async () => {
    const sslrootcert = join(server.folder, 'followed.crt');
    copyFileSync(authority.certPath, sslrootcert);
    const database = await openDatabase(urlOf({ sslmode: 'verify-full', sslrootcert }), () => {});
    try {
      for (const half of ['', 'no certificate']) {
        writeFileSync(sslrootcert, half);
        await cutConnections(database);
        await database.ping();
      }
      copyFileSync(stranger.certPath, sslrootcert);
      await cutConnections(database);
      const error = await catchError(database.ping());
      assert.equal(isDatabaseUnavailable(error), true, `503, not 500: ${error}`);
      copyFileSync(authority.certPath, sslrootcert);
      await database.ping();
    } finally {
      await database.close();
    }
  });

  test('asks nobody else for a password that the URL lacks, and names a wrong one', async () => {
    const parameters = { sslmode: 'verify-full', sslrootcert: authority.certPath };
    process.env.PGPASSWORD = 'correct horse';
    try {
      assert.equal(
        await refusalOf(urlOf(parameters, { user: 'with_password' })),
        'DATABASE_URL: the server asks for a password, and the URL has none.',
      );
    } finally {
      delete process.env.PGPASSWORD;
    }
    const wrong = await refusalOf(urlOf(parameters, { user: 'with_password', password: 'hunter2' }));
    assert.equal(wrong, 'DATABASE_URL: the server refuses the user name or the password.');
    await readTls(urlOf(parameters, { user: 'with_password', password: 'correct horse' }));
  });

  test('brings no warning of a library into the output of the program', async () => {
    const { environment, remove } = await createScratch('sqlite+memory');
    const DATABASE_URL = urlOf({ sslmode: 'require', sslrootcert: authority.certPath });
    const program = await startProgram({ ...environment, DATABASE_URL });
    await program.stop('SIGTERM');
    await remove();
    assert.doesNotMatch(program.output(), /warning|deprecat/i);
  });

  function urlOf(
    parameters: Parameters,
    parts: { host?: string; port?: string; user?: string; password?: string } = {},
  ) {
    const url = new URL(server.url);
    Object.assign(url, { hostname: parts.host ?? 'localhost', port: parts.port ?? url.port });
    Object.assign(url, { username: parts.user ?? 'postgres', password: parts.password ?? '' });
    url.search = new URLSearchParams(parameters).toString();
    return url.href;
  }

  async function onSocket(statements: string): Promise<void> {
    const { port } = new URL(server.url);
    const database = await openDatabase(
      `postgres://postgres@localhost:${port}/postgres?host=${server.folder}`,
      () => {},
    );
    try {
      await sql.raw(statements).execute(database.db);
    } finally {
      await database.close();
    }
  }
});

describe('a start in production', () => {
  test('warns of a PostgreSQL elsewhere that is spoken to in the clear, without a word of the URL', async () => {
    const { environment, remove } = await createScratch('sqlite+memory');
    const { output } = await failStart({
      ...environment,
      NODE_ENV: 'production',
      RATE_LIMITS: 'on',
      BCRYPT_COST: '12',
      SECRET_KEY: 'q7Vf1mX0hJr9Zt3KpWc5Ny8BdLs2Gu6EaTiO4xRv',
      PUBLIC_URL: 'https://auth.example.com',
      SMTP_URL: 'smtp://mail.invalid',
      MAIL_FROM: 'auth@example.com',
      DATABASE_URL: 'postgres://someone:hunter2@db.invalid/latchkey',
    });
    await remove();
    assert.match(output, /"level":40.+DATABASE_URL names another machine without an sslmode/);
    assert.match(output, /^Latchkey could not start\. DATABASE_URL: PostgreSQL does not answer/m);
    assert.doesNotMatch(output, /someone|hunter2|db\.invalid/);
  });
});

/** What the server says of a connection of the pool. */
async function readTls(url: string): Promise<unknown> {
  const database = await openDatabase(url, () => {});
  try {
    const { rows } = await sql`select ssl, client_dn as user from pg_stat_ssl where pid = pg_backend_pid()`.execute(
      database.db,
    );
    return rows[0];
  } finally {
    await database.close();
  }
}

/** The sentence with which a start is refused: at once, and without a word of the URL. */
async function refusalOf(url: string): Promise<string> {
  const error = await catchError(openDatabase(url, () => {}));
  const text = explainStartError(error, undefined);
  assert.match(text, /^Latchkey could not start\. DATABASE_URL: /);
  assert.doesNotMatch(text, /hunter2|postgres:\/\/|\n/);
  assert.equal(mayPass(error), false, `waiting would not mend it: ${error}`);
  return text.replace('Latchkey could not start. ', '');
}

async function cutConnections({ db }: Database): Promise<void> {
  const others = sql`select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'latchkey' and pid <> pg_backend_pid()`;
  await others.execute(db);
  await sql`select pg_terminate_backend(pg_backend_pid())`.execute(db).catch(() => {});
}

async function catchError(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error('it did not fail');
}
