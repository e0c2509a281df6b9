import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { createClient } from '@redis/client';
import { DCLinter } from 'dclint';
import pg from 'pg';
import { parse } from 'yaml';
import packageJson from '../package.json' with { type: 'json' };
import { loadConfig } from '../src/config.ts';
import { environmentSchema, fileVariables } from '../src/config-schema.ts';
import { readStages } from './dockerfile.ts';
import { reasonToSkip, startPostgres, startRedis } from './faults/servers.ts';

const root = join(import.meta.dirname, '..');
const text = readFileSync(join(root, 'compose.yaml'), 'utf8');

type Service = {
  image: string;
  user?: string;
  read_only: boolean;
  cap_drop: string[];
  cap_add?: string[];
  security_opt: string[];
  environment?: Record<string, string>;
  volumes?: string[];
  networks?: string[];
  network_mode?: string;
  ports?: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
  mem_limit: string;
  pids_limit: number;
};
type Compose = { services: Record<string, Service>; networks: Record<string, { internal?: boolean }>; volumes: object };
const compose = parse(text, { merge: true }) as Compose;
const services = Object.entries(compose.services);
const service = (name: string): Service => {
  const found = compose.services[name];
  assert.ok(found, `there is no service ${name}`);
  return found;
};

// Matters of taste, two that the defaults of variables hide from it, and the image that is built here and has a name.
const rulesLeftOut = [
  'no-build-and-image',
  'no-unbound-port-interfaces',
  'require-quotes-in-ports',
  'service-dependencies-alphabetical-order',
  'service-keys-order',
  'services-alphabetical-order',
  'top-level-properties-order',
];

function lint(path: string): string[] {
  const rules = Object.fromEntries(rulesLeftOut.map((rule) => [rule, 0 as const]));
  const linter = new DCLinter({ rules, quiet: false, debug: false, exclude: [] });
  const results: { messages: { message: string }[] }[] = linter.lintFiles([path], false);
  return results.flatMap(({ messages }) => messages.map(({ message }) => message));
}

describe('compose.yaml', () => {
  test('is what the Compose Specification calls valid, and has no fault that the linter knows', (t) => {
    assert.deepEqual(lint(join(root, 'compose.yaml')), []);
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-compose-'));
    t.after(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'compose.yaml'), text.replace('mem_limit', 'memory_limit'));
    assert.equal(lint(join(folder, 'compose.yaml')).length, 1);
  });

  test('confines every service', () => {
    for (const [name, { read_only, cap_drop, security_opt, mem_limit, pids_limit }] of services) {
      const confinement = { read_only, cap_drop, security_opt };
      const wanted = { read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] };
      assert.deepEqual(confinement, wanted, name);
      assert.ok(mem_limit !== undefined && pids_limit > 0, name);
    }
    const added = services
      .filter(([, { cap_add }]) => cap_add !== undefined)
      .map(([name, { cap_add }]) => [name, cap_add]);
    assert.deepEqual(added, [
      ['secrets', ['CHOWN']],
      ['proxy', ['NET_BIND_SERVICE']],
    ]);
  });

  test('takes every image of others by its digest, and the same Node.js as the Dockerfile', () => {
    for (const [name, { image }] of services)
      if (name !== 'latchkey') assert.match(image, /^[\w/]+:[\w.-]+@sha256:[0-9a-f]{64}$/, name);
    const [base] = readStages(readFileSync(join(root, 'Dockerfile'), 'utf8'));
    assert.equal(service('secrets').image, base?.base);
    assert.ok(base?.base.includes(packageJson.devDependencies.node));
  });

  test('opens ports of the proxy alone, and of this machine alone unless it is told otherwise', () => {
    assert.deepEqual(
      services.filter(([, { ports }]) => ports !== undefined).map(([name]) => name),
      ['proxy'],
    );
    const addresses = service('proxy').ports?.map((port) => port.replace(/\$\{\w+:-([\d.]+)\}/g, '$1').split(':')[0]);
    assert.deepEqual(addresses, ['127.0.0.1', '127.0.0.1']);
  });

  test('gives databases and mailbox no way out, and the proxy one way to Latchkey', () => {
    const isInternal = (name: string) => compose.networks[name]?.internal === true;
    for (const name of ['postgres', 'redis', 'mailpit']) assert.ok(service(name).networks?.every(isInternal), name);
    assert.equal(service('secrets').network_mode, 'none');
    // TRUST_PROXY names the network in which they meet: a second one would be another address of the proxy.
    const shared = service('proxy').networks?.filter((name) => service('latchkey').networks?.includes(name));
    assert.deepEqual(shared, ['application']);
    const members = services.filter(([, { networks }]) => networks?.includes('application')).map(([name]) => name);
    assert.deepEqual(members, ['latchkey', 'proxy']);
    const [subnet] = /10\.[\d.]+\/\d+/.exec(JSON.stringify(compose.networks['application'])) ?? [];
    assert.ok(service('latchkey').environment?.['TRUST_PROXY']?.includes(subnet ?? 'none'));
  });

  test('starts each service only when what it needs can be used', () => {
    for (const [name, { depends_on = {} }] of services) {
      for (const [other, { condition }] of Object.entries(depends_on)) {
        const isHealthy = condition === 'service_healthy';
        // The health check of Latchkey is that of its image.
        if (isHealthy && other !== 'latchkey') assert.ok(service(other).healthcheck, `${name} waits for ${other}`);
        if (other === 'secrets') assert.equal(condition, 'service_completed_successfully', name);
      }
    }
    for (const name of ['latchkey', 'postgres', 'redis']) assert.ok(service(name).depends_on?.['secrets'], name);
    // While PostgreSQL makes its data folder it answers on its socket file.
    assert.ok(service('postgres').healthcheck?.test.includes('--host=127.0.0.1'));
  });

  test('names only variables that there are, and no secret', () => {
    const names = Object.keys(service('latchkey').environment ?? {});
    const known = [...Object.keys(environmentSchema.properties), ...fileVariables.map((name) => `${name}_FILE`)];
    assert.deepEqual(
      names.filter((name) => !known.includes(name)),
      [],
    );
    const everywhere = services.flatMap(([, { environment = {} }]) => Object.keys(environment));
    assert.deepEqual(
      everywhere.filter((name) => /secret|password|token|key|database|redis/i.test(name) && !name.endsWith('_FILE')),
      [],
    );
  });

  test('can be changed by the variables of docs/deploying.md, which names their defaults', () => {
    const defaults = new Map(
      [...text.matchAll(/\$\{(LATCHKEY_\w+):-([^}]*)\}/g)].map(([, name = '', value]) => [name, value]),
    );
    const page = readFileSync(join(root, 'docs/deploying.md'), 'utf8');
    const rows = [...page.matchAll(/^\| `(LATCHKEY_\w+)` +\|.*\| (.+?) +\|$/gm)];
    const documented = new Map(rows.map(([, name = '', value = '']) => [name, value.replaceAll('`', '')]));
    // The mailbox has no address that anybody would write down.
    documented.set('LATCHKEY_SMTP_URL', 'smtp://mailpit:1025?tls=off');
    assert.deepEqual(Object.fromEntries(documented), Object.fromEntries(defaults));
  });

  test('mounts only files that there are, and the secrets of each service into no other', () => {
    const mounts = services.flatMap(([name, { volumes = [] }]) =>
      volumes.map((volume) => ({ name, from: volume.split(':')[0] ?? '' })),
    );
    for (const { from } of mounts) {
      if (from.startsWith('./')) assert.ok(existsSync(join(root, from)), from);
      else assert.ok(from in compose.volumes, from);
    }
    for (const { name, from } of mounts.filter((mount) => mount.from.startsWith('secrets-')))
      assert.ok(name === 'secrets' || from === `secrets-${name}`, `${name} can read ${from}`);
  });
});

describe('the secrets of compose.yaml', () => {
  const script = join(root, 'deploy/compose/make-secrets.ts');
  const isRoot = process.getuid?.() === 0;

  function makeSecrets(t: TestContext) {
    const folder = mkdtempSync(join(tmpdir(), 'latchkey-secrets-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    for (const name of ['all', 'latchkey', 'postgres', 'redis']) mkdirSync(join(folder, name));
    const run = () => execFileSync(process.execPath, [script, folder], { encoding: 'utf8' });
    return { folder, run, read: (path: string) => readFileSync(join(folder, path), 'utf8') };
  }

  test('are made once, said nowhere, and readable for their owners alone', (t) => {
    const { folder, run, read } = makeSecrets(t);
    assert.equal(run(), '');
    const list = () => readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => path.includes('/'));
    const files = list().map((path) => [path, read(path)] as const);
    assert.equal(files.length, 8);
    const owners: Record<string, number> = { all: 0, latchkey: 1000, postgres: 999, redis: 999 };
    for (const [path] of files) {
      const { mode, uid } = statSync(join(folder, path));
      assert.equal(mode & 0o777, 0o400, path);
      if (isRoot) assert.equal(uid, owners[path.split('/')[0] ?? ''], path);
    }
    run();
    assert.deepEqual(
      list().map((path) => [path, read(path)]),
      files,
    );
    // As after a volume was lost.
    rmSync(join(folder, 'latchkey/database_url'));
    run();
    assert.deepEqual(
      list()
        .map((path) => [path, read(path)])
        .toSorted(),
      files.toSorted(),
    );
    assert.notEqual(makeSecretKey(t), makeSecretKey(t));
  });

  function makeSecretKey(t: TestContext): string {
    const { run, read } = makeSecrets(t);
    run();
    return read('latchkey/secret_key');
  }

  test('are a configuration that Latchkey takes in production, with what compose.yaml says', (t) => {
    const { folder, run } = makeSecrets(t);
    run();
    const given = Object.entries(service('latchkey').environment ?? {}).map(([name, value]) => [
      name,
      value.replace(/\$\{\w+:-(.*)\}/, '$1').replace('/run/latchkey', join(folder, 'latchkey')),
    ]);
    const { environment, trustedProxies } = loadConfig({ NODE_ENV: 'production', ...Object.fromEntries(given) });
    assert.equal(environment.PUBLIC_URL, 'https://localhost:8443');
    assert.match(
      environment.DATABASE_URL,
      /^postgres:\/\/latchkey:[\w-]{64}@postgres:5432\/latchkey\?sslmode=disable$/,
    );
    assert.match(environment.REDIS_URL ?? '', /^redis:\/\/:[\w-]{64}@redis:6379$/);
    assert.equal(trustedProxies.length, 1);
  });

  test('open the Redis that they configure, and nothing else does', { skip: reasonToSkip('redis') }, async (t) => {
    const { run, read } = makeSecrets(t);
    run();
    const server = await startRedis(['maxclients 100', ...read('redis/redis.conf').trim().split('\n').slice(1)]);
    t.after(server.remove);
    const password = read('redis/password');
    const admin = await createClient({ url: server.url }).connect();
    await admin.configSet('requirepass', /^requirepass (\S+)$/m.exec(read('redis/redis.conf'))?.[1] ?? '');
    assert.deepEqual(await admin.configGet('maxmemory-policy'), { 'maxmemory-policy': 'noeviction' });
    admin.destroy();
    const port = new URL(server.url).port;
    const url = read('latchkey/redis_url').replace('redis:6379', `127.0.0.1:${port}`);
    assert.equal(new URL(url).password, password);
    const client = await createClient({ url }).connect();
    assert.equal(await client.ping(), 'PONG');
    client.destroy();
    const stranger = createClient({ url: server.url, socket: { reconnectStrategy: false } });
    stranger.on('error', () => {});
    await stranger.connect().catch(() => {});
    await assert.rejects(stranger.ping());
    if (stranger.isOpen) stranger.destroy();
  });

  test('open the database that create-database.sql makes, whose owner is no superuser', {
    skip: reasonToSkip('postgres'),
  }, async (t) => {
    const { folder, run, read } = makeSecrets(t);
    run();
    const access = ['host all postgres 127.0.0.1/32 trust', 'host all all 127.0.0.1/32 scram-sha-256'];
    const server = await startPostgres({ access });
    t.after(server.remove);
    const sql = readFileSync(join(root, 'deploy/compose/create-database.sql'), 'utf8');
    const adapted = join(folder, 'create-database.sql');
    writeFileSync(adapted, sql.replace('/run/latchkey', join(folder, 'postgres')));
    // As the image runs it.
    execFileSync('psql', ['-v', 'ON_ERROR_STOP=1', '--no-psqlrc', '-f', adapted, server.url], { stdio: 'pipe' });
    const port = new URL(server.url).port;
    const connectionString = read('latchkey/database_url').replace('postgres:5432', `127.0.0.1:${port}`);
    const client = new pg.Client({ connectionString });
    await client.connect();
    const { rows } = await client.query(
      'select rolsuper, current_database() from pg_roles where rolname = current_user',
    );
    assert.deepEqual(rows, [{ rolsuper: false, current_database: 'latchkey' }]);
    await client.query('create table mine (a int)');
    await client.end();
    const wrong = new pg.Client({ connectionString: connectionString.replace(/:[\w-]{64}@/, ':wrong@') });
    await assert.rejects(wrong.connect(), { code: '28P01' });
  });
});
