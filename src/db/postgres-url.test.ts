import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type AuthorityFiles, createAuthorityFiles } from '../../test/certificate-files.ts';
import { problemsOf, production } from '../../test/config.ts';
import { describeTransportRisk, findPostgresUrlFault, readPostgresUrl, readTlsOptions } from './postgres-url.ts';

const server = 'postgres://someone:hunter2@db.example.com/latchkey';

describe('what a URL of PostgreSQL says', () => {
  test('is read part by part, with what is percent-encoded decoded', () => {
    const options = encodeURIComponent('-c search_path=latchkey');
    assert.deepEqual(
      readPostgresUrl(`postgresql://us%40er:p%2Fw@[::1]:6432/la%20tch?options=${options}&application_name=one`),
      {
        host: '::1',
        port: 6432,
        user: 'us@er',
        password: 'p/w',
        database: 'la tch',
        applicationName: 'one',
        options: '-c search_path=latchkey',
        sslMode: undefined,
        files: {},
        isPooled: false,
      },
    );
  });

  test('is this machine and the usual port where it names neither', () => {
    const { host, port, user, password, database, applicationName } = readPostgresUrl('postgres:///');
    assert.deepEqual([host, port, applicationName], ['localhost', 5432, 'latchkey']);
    assert.deepEqual([user, password, database], [undefined, undefined, undefined]);
  });

  test('may be the folder of a socket file, as a host or as a parameter', () => {
    for (const url of [
      'postgres://u@%2Frun%2Fpg/x',
      'postgres:///x?host=/run/pg',
      'postgres://u@localhost/x?host=/run/pg',
    ]) {
      assert.equal(findPostgresUrlFault(url), undefined, url);
      assert.equal(readPostgresUrl(url).host, '/run/pg', url);
    }
  });
});

describe('a URL of PostgreSQL is refused', () => {
  let authority: AuthorityFiles;
  let folder: string;
  let junk: string;
  before(() => {
    authority = createAuthorityFiles();
    folder = mkdtempSync(join(tmpdir(), 'latchkey-'));
    junk = join(folder, 'junk');
    writeFileSync(junk, 'no certificate');
  });
  after(() => {
    authority?.remove();
    rmSync(folder, { recursive: true });
  });

  const refused: [string, RegExp][] = [
    ['?sslmode=prefer', /^may have an sslmode of disable, require, .+ prefer and allow would go on in the clear/],
    ['?sslmode=allow', /^may have an sslmode of /],
    ['?sslmode=VERIFY-FULL', /^may have an sslmode of /],
    ['?sslmode=', /^may have an sslmode of /],
    ['?ssl=true', /^may have the parameters sslmode, .+ and no other/],
    ['?ssl_mode=verify-full', /^may have the parameters sslmode, .+ and no other/],
    ['?uselibpqcompat=true&sslmode=require', /^may have the parameters sslmode, .+ and no other/],
    ['?password=x', /^may have the parameters sslmode, .+ and no other/],
    ['?statement_timeout=0', /^may have the parameters sslmode, .+ and no other/],
    ['?sslmode=disable&sslmode=verify-full', /^names a parameter twice$/],
    ['?pgbouncer=1', /^may have pgbouncer=true or false$/],
    ['?host=/run/pg', /^may have a host parameter only for the folder of a socket file/],
    ['?sslrootcert=/ca.crt', /^names certificates, but no sslmode that uses them/],
    ['?sslmode=disable&sslrootcert=/ca.crt', /^names certificates, but no sslmode that uses them/],
    ['?sslmode=no-verify&sslrootcert=/ca.crt', /^names an sslrootcert, which sslmode=no-verify does not look at/],
    ['?sslmode=verify-ca', /^has sslmode=verify-ca without sslrootcert/],
    ['?sslmode=verify-full&sslcert=/c.crt', /^needs sslcert and sslkey together$/],
    ['?sslmode=verify-full&sslkey=/c.key', /^needs sslcert and sslkey together$/],
    ['?sslmode=verify-full&sslrootcert=/no/such/file', /^names an sslrootcert that cannot be read \(ENOENT\)$/],
    ['?sslmode=verify-full&sslrootcert=%00', /^names an sslrootcert that cannot be read \(\w+\)$/],
  ];
  for (const [query, fault] of refused) {
    test(`for ${query}, in words that repeat nothing of it`, () => {
      const [problem = '', ...more] = problemsOf({ ...production, DATABASE_URL: server + query });
      assert.match(problem.replace(/^DATABASE_URL /, ''), fault);
      assert.deepEqual(more, []);
      assert.doesNotMatch(problem, /hunter2|someone|example\.com|\/no\/such/);
    });
  }

  test('for several hosts, a host parameter that is none of a socket, and TLS on a socket', () => {
    const faults: [string, RegExp][] = [
      ['postgres://one,two/x', /^names several hosts/],
      ['postgres:///x?host=db.example.com', /^may have a host parameter only for the folder/],
      ['postgres:///x?host=/run/pg&sslmode=require', /^has an sslmode, but a socket file is never encrypted$/],
      ['postgres://%2Frun%2Fpg/x?sslmode=verify-full', /^has an sslmode, but a socket file is never encrypted$/],
    ];
    for (const [url, fault] of faults) assert.match(findPostgresUrlFault(url) ?? '', fault, url);
  });

  test('for a part that is not percent-encoded, wherever it is', () => {
    for (const url of ['postgres://d%zzb/x', 'postgres://db/%zz', 'postgres://u%zz@db/x']) {
      assert.deepEqual(problemsOf({ ...production, DATABASE_URL: url }), [
        'DATABASE_URL has a % that is not percent-encoded',
      ]);
    }
  });

  test('for files in which there is not what they are named for', () => {
    const faultOf = (files: Record<string, string>) =>
      findPostgresUrlFault(`${server}?${new URLSearchParams({ sslmode: 'verify-full', ...files })}`);
    const { certPath, keyPath } = authority.sign('client');
    assert.equal(faultOf({ sslrootcert: authority.certPath, sslcert: certPath, sslkey: keyPath }), undefined);
    assert.equal(faultOf({ sslrootcert: junk }), 'names an sslrootcert without a PEM certificate');
    const noPair = /^names an sslcert and an sslkey that are not a PEM certificate and its private key/;
    assert.match(faultOf({ sslcert: certPath, sslkey: authority.sign('other').keyPath }) ?? '', noPair);
    assert.match(faultOf({ sslcert: junk, sslkey: keyPath }) ?? '', noPair);
    assert.match(faultOf({ sslcert: certPath, sslkey: junk }) ?? '', noPair);
  });
});

describe('the sslmode of a URL', () => {
  test('decides what is checked, and nothing is checked less than require', () => {
    const optionsOf = (query: string) => readTlsOptions(readPostgresUrl(server + query));
    assert.deepEqual([optionsOf(''), optionsOf('?sslmode=disable')], [false, false]);
    const require = optionsOf('?sslmode=require');
    assert.deepEqual(require, optionsOf('?sslmode=verify-full'));
    assert.deepEqual(require, { rejectUnauthorized: true, ca: undefined, cert: undefined, key: undefined });
    assert.deepEqual(optionsOf('?sslmode=no-verify'), { ...require, rejectUnauthorized: false });
  });

  test('that leaves the way to another machine open is a risk to be told of', () => {
    const clear = /^DATABASE_URL names another machine without an sslmode, .+ sslmode=verify-full/;
    assert.match(describeTransportRisk(server) ?? '', clear);
    assert.match(describeTransportRisk('postgres://10.0.0.1/x') ?? '', clear);
    assert.match(describeTransportRisk('postgres://localhost.example.com/x') ?? '', clear);
    assert.match(describeTransportRisk(`${server}?sslmode=no-verify`) ?? '', /encrypted to whoever answers/);
    for (const safe of [
      'sqlite:./data/latchkey.db',
      'postgres://localhost/x',
      'postgres://127.0.0.1/x',
      'postgres://[::1]/x',
      'postgres:///x?host=/run/pg',
      `${server}?sslmode=disable`,
      `${server}?sslmode=verify-full`,
      `${server}?sslmode=require`,
    ]) {
      assert.equal(describeTransportRisk(safe), undefined, safe);
    }
  });

  test('reads the files that the URL names', () => {
    const authority = createAuthorityFiles();
    const { certPath, keyPath } = authority.sign('client');
    const files = new URLSearchParams({ sslmode: 'verify-ca', sslrootcert: authority.certPath, sslcert: certPath });
    const options = readTlsOptions(readPostgresUrl(`${server}?${files}&sslkey=${keyPath}`));
    assert.ok(options);
    const read = (path: string) => readFileSync(path, 'utf8');
    assert.deepEqual(
      [options.ca, options.cert, options.key],
      [read(authority.certPath), read(certPath), read(keyPath)],
    );
    assert.equal(options.checkServerIdentity?.('any', {} as never), undefined);
    authority.remove();
  });
});
