import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import tls from 'node:tls';
import { findFreePort } from '../ports.ts';
import { get, type Program, startProgram } from '../program.ts';
import { ask, waitFor } from './redis-groups.ts';
import { type PrivateServer, reasonToSkip, runRedis } from './servers.ts';

const password = 'secret';
const opensslProgram = 'openssl';

describe('over TLS, under a private CA', { skip: reasonToSkip('redis') || reasonWithoutOpenssl() }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-tls-'));
  const caFile = join(folder, 'ca.crt');
  const members: PrivateServer[] = [];
  const urls: Record<string, string> = {};

  before(async () => {
    makeCertificates(folder);
    // Only for what this test asks the servers itself.
    tls.setDefaultCACertificates([readFileSync(caFile, 'utf8')]);
    const single = await startEncrypted([]);
    const member = await startEncrypted([
      'cluster-enabled yes',
      'tls-cluster yes',
      `cluster-port ${await findFreePort()}`,
    ]);
    await ask(member.url, ['CLUSTER', 'ADDSLOTSRANGE', '0', '16383']);
    const sentinel = await startEncrypted(
      [`sentinel monitor main 127.0.0.1 ${portOf(single)} 1`, `sentinel auth-pass main ${password}`],
      ['--sentinel'],
    );
    urls['one server'] = single.url;
    // It has met no other server and so does not know its own address.
    urls['a cluster'] = member.url.replace('rediss:', 'rediss+cluster:');
    urls['a sentinel'] =
      `rediss+sentinel://:${password}@127.0.0.1:${portOf(sentinel)}/main?sentinel_password=${password}`;
  });
  after(async () => {
    await Promise.all(members.map((member) => member.remove()));
    rmSync(folder, { recursive: true, force: true });
  });

  for (const form of ['one server', 'a cluster', 'a sentinel']) {
    test(`${form} is reached where NODE_EXTRA_CA_CERTS names the CA`, async () => {
      await withProgram({ REDIS_URL: urls[form] ?? '', NODE_EXTRA_CA_CERTS: caFile }, async (program) => {
        await waitFor(async () => (await readiness(program)) === 'ready');
      });
    });
  }

  test('and is not spoken to where nothing vouches for it', async () => {
    await withProgram({ REDIS_URL: urls['one server'] ?? '' }, async (program) => {
      await waitFor(async () => /unable to verify|self-signed|unable to get/.test(program.output()));
      assert.equal(await readiness(program), 'degraded');
      assert.doesNotMatch(program.output(), new RegExp(password));
    });
  });

  async function withProgram(environment: Record<string, string>, act: (program: Program) => Promise<void>) {
    const data = mkdtempSync(join(folder, 'data-'));
    const program = await startProgram({
      DATA_DIR: data,
      SECRET_KEY: randomBytes(48).toString('base64'),
      ...environment,
    });
    try {
      await act(program);
    } finally {
      const { code, afterMs } = await program.stop('SIGTERM');
      assert.equal(code, 0);
      assert.ok(afterMs < 5_000, `it took ${afterMs} ms to end`);
    }
  }

  async function startEncrypted(lines: readonly string[], options: string[] = []): Promise<PrivateServer> {
    const port = await findFreePort();
    const encryption = ['port 0', `tls-port ${port}`, 'tls-auth-clients no', 'tls-replication yes'];
    const files = ['ca-cert', 'cert', 'key'].map((kind) => `tls-${kind}-file ${join(folder, fileNames[kind] ?? '')}`);
    const url = `rediss://:${password}@127.0.0.1:${port}`;
    const member = await runRedis({
      url,
      lines: [...encryption, ...files, `requirepass ${password}`, ...lines],
      options,
    });
    members.push(member);
    return member;
  }
});

const fileNames: Record<string, string> = { 'ca-cert': 'ca.crt', cert: 'server.crt', key: 'server.key' };

async function readiness(program: Program): Promise<string> {
  const { body } = await get(program, '/health/ready');
  return body.status;
}

function portOf({ url }: PrivateServer): string {
  return new URL(url).port;
}

/** Makes a CA and a certificate of it for 127.0.0.1. */
function makeCertificates(folder: string): void {
  const openssl = (...args: string[]) => execFileSync(opensslProgram, args, { cwd: folder, stdio: 'ignore' });
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  openssl('req', '-x509', ...key, '-subj', '/CN=ca', '-keyout', 'ca.key', '-out', 'ca.crt');
  const names = ['-addext', 'subjectAltName=IP:127.0.0.1', '-addext', 'basicConstraints=CA:FALSE'];
  const signer = ['-CA', 'ca.crt', '-CAkey', 'ca.key'];
  openssl(
    'req',
    '-x509',
    ...key,
    ...signer,
    ...names,
    '-subj',
    '/CN=redis',
    '-keyout',
    'server.key',
    '-out',
    'server.crt',
  );
}

function reasonWithoutOpenssl(): string | false {
  try {
    execFileSync(opensslProgram, ['version'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'openssl is not installed';
  }
}
