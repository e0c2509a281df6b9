import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { call } from '../client.ts';
import { resign, type Tokens, takeApart } from '../hostile-tokens.ts';
import { reasonForNoNginx, replaceOnce, runNginx } from '../nginx.ts';
import { findFreePort } from '../ports.ts';
import { findPythonWithJwt } from '../python.ts';
import { until } from '../until.ts';
import { readBlocks } from './blocks.ts';
import { startApplication, startKeyServer, startTokenService, type TokenService } from './service.ts';

const page = 'docs/verifying-tokens.md';
const root = join(import.meta.dirname, '../..');
const python = findPythonWithJwt();

let service: TokenService;
let folder: string;
before(async () => {
  service = await startTokenService();
  folder = mkdtempSync(join(tmpdir(), 'latchkey-verifying-'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
  const [verifyToken, verifier] = [...readBlocks(page, 'Node.js', 'js'), ...readBlocks(page, 'Behind nginx', 'js')];
  writeFileSync(join(folder, 'verify-token.mjs'), verifyToken ?? '');
  writeFileSync(join(folder, 'verifier.mjs'), verifier ?? '');
  writeFileSync(join(folder, 'verify_token.py'), readBlocks(page, 'Python', 'python')[0] ?? '');
  writeFileSync(join(folder, 'drive.mjs'), nodeDriver);
  writeFileSync(join(folder, 'drive.py'), pythonDriver);
});
after(async () => {
  await service?.close();
  rmSync(folder, { recursive: true, force: true });
});

// Each reads one header a line and says what became of it.
const nodeDriver = `
import { createInterface } from 'node:readline';
import { verifyToken } from './verify-token.mjs';
for await (const line of createInterface({ input: process.stdin })) {
  const claims = await verifyToken(JSON.parse(line)).catch(() => null);
  console.log(claims === null ? 'no keys' : (claims?.sub ?? 'refused'));
}`;
const pythonDriver = `
import json, sys
from verify_token import verify_token
for line in sys.stdin:
    try:
        claims = verify_token(json.loads(line))
        print("refused" if claims is None else claims["sub"])
    except OSError:
        print("no keys")
`;

type Verifier = { command: string; args: string[]; reasonForNone: string | false };
const verifiers: Record<string, Verifier> = {
  'jose on Node.js': { command: process.execPath, args: ['drive.mjs'], reasonForNone: false },
  'PyJWT on Python': {
    command: python ?? '',
    args: ['drive.py'],
    reasonForNone: python === undefined && 'there is no python3-jwt',
  },
};

async function judge({ command, args }: Verifier, issuer: string, headers: readonly unknown[]): Promise<string[]> {
  const child = spawn(command, args, {
    cwd: folder,
    env: { PATH: process.env.PATH, ISSUER: issuer, AUDIENCE: service.issuer },
    timeout: 30_000,
  });
  let [output, complaints] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    complaints += chunk;
  });
  child.stdin.end(headers.map((header) => `${JSON.stringify(header)}\n`).join(''));
  const [code] = await once(child, 'close');
  assert.equal(code, 0, complaints);
  return output.trim().split('\n');
}

async function judgeTokens(verifier: Verifier, tokens: Tokens): Promise<Record<string, string>> {
  const verdicts = await judge(
    verifier,
    service.issuer,
    Object.values(tokens).map((token) => `Bearer ${token}`),
  );
  return Object.fromEntries(Object.keys(tokens).map((what, index) => [what, verdicts[index] ?? '']));
}

function allOf(tokens: Tokens, verdict: string): Record<string, string> {
  return Object.fromEntries(Object.keys(tokens).map((what) => [what, verdict]));
}

for (const [name, verifier] of Object.entries(verifiers)) {
  describe(`the code of the page with ${name}`, { skip: verifier.reasonForNone }, () => {
    test('finds the user of a genuine token', async () => {
      const { genuine, user } = service;
      assert.deepEqual(await judgeTokens(verifier, genuine), allOf(genuine, user.id));
    });

    test('refuses every forged, expired and foreign token', async () => {
      const { forgeries } = service;
      assert.ok(Object.keys(forgeries).length > 70);
      assert.deepEqual(await judgeTokens(verifier, forgeries), allOf(forgeries, 'refused'));
    });

    test('refuses what is no bearer token', async () => {
      const { accessToken } = service.user;
      const headers = [null, '', 'Bearer', 'Bearer ', `Basic ${accessToken}`, accessToken, 'Bearer a.b.c', 'Bearer é'];
      assert.deepEqual(
        await judge(verifier, service.issuer, headers),
        headers.map(() => 'refused'),
      );
    });

    test('fetches the keys once, and not again for each invented kid', async (t) => {
      const keyServer = await startKeyServer((await call(service.system, jwksRequest)).body);
      t.after(() => keyServer.server.close());
      const parts = takeApart(service.user.accessToken);
      const issuer = `http://127.0.0.1:${keyServer.port}`;
      const invented = await Promise.all(
        Array.from({ length: 20 }, (_, index) =>
          resign(service.system, parts, { kid: `kid-${index}` }, { iss: issuer }),
        ),
      );
      const genuine = await resign(service.system, parts, {}, { iss: issuer });
      const headers = [genuine, ...invented, genuine].map((token) => `Bearer ${token}`);
      const { id } = service.user;
      assert.deepEqual(await judge(verifier, issuer, headers), [id, ...invented.map(() => 'refused'), id]);
      assert.equal(keyServer.asked.length, 1);
    });

    test('does not call a token invalid when the keys cannot be had', async (t) => {
      const keyServer = await startKeyServer({});
      t.after(() => keyServer.server.close());
      keyServer.fails = true;
      const headers = [`Bearer ${service.user.accessToken}`];
      assert.deepEqual(await judge(verifier, `http://127.0.0.1:${keyServer.port}`, headers), ['no keys']);
      const closedPort = await findFreePort();
      assert.deepEqual(await judge(verifier, `http://127.0.0.1:${closedPort}`, headers), ['no keys']);
    });
  });
}

const jwksRequest = { method: 'GET', path: '/.well-known/jwks.json' } as const;

describe('the configuration of nginx on the page', { skip: reasonForNoNginx }, () => {
  test('lets only valid tokens through, says who it is itself, and stays closed when nobody answers', async (t) => {
    const application = await startApplication();
    t.after(() => application.server.close());
    const verifierPort = await findFreePort();
    const verifier = spawn(process.execPath, ['verifier.mjs'], {
      cwd: folder,
      env: { ISSUER: service.issuer, PORT: String(verifierPort) },
      stdio: 'inherit',
    });
    t.after(() => verifier.kill('SIGKILL'));
    const port = await findFreePort();
    const nginx = await runNginx(mkdtempSync(join(tmpdir(), 'latchkey-auth-request-')), {
      site: readSite({ port, verifierPort, applicationPort: application.port, servicePort: service.port }),
      port,
      address: '127.0.0.1',
    });
    t.after(() => nginx.stop());
    const ask = async (path: string, headers: Record<string, string> = {}) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers });
      await response.text();
      return response;
    };
    const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
    const { accessToken, id } = service.user;
    await until(async () => (await ask('/', bearer(accessToken))).status === 200);

    for (const path of ['/', '/payments/1']) {
      application.asked.length = 0;
      const pretended = { 'x-user-id': 'root', 'X-User-Permissions': 'app:all', X_User_Id: 'root' };
      assert.equal((await ask(path, { ...pretended, ...bearer(accessToken) })).status, 200, path);
      const reached = application.asked[0] ?? {};
      assert.equal(reached['x-user-id'], path === '/' ? id : undefined);
      assert.ok(!JSON.stringify(reached).match(/root|app:all/));
      assert.equal(reached.authorization, path === '/' ? undefined : `Bearer ${accessToken}`);

      const posted = await fetch(`http://127.0.0.1:${port}${path}`, {
        method: 'POST',
        headers: bearer(accessToken),
        body: 'amount=1',
      });
      assert.deepEqual([posted.status, await posted.text()], [200, 'POST amount=1'], path);

      application.asked.length = 0;
      const without = await ask(path, pretended);
      assert.equal(without.status, 401, path);
      assert.match(without.headers.get('www-authenticate') ?? '', /^Bearer/);
      for (const [what, token] of Object.entries(service.forgeries)) {
        // What cannot stand in a header, or is longer than nginx takes, never gets as far.
        const { status } = await ask(path, bearer(token));
        assert.ok([400, 401].includes(status), `${path}: ${what}: ${status}`);
      }
      assert.equal((await ask('/_verified', bearer(accessToken))).status, 404);
      assert.equal((await ask('/_session', bearer(accessToken))).status, 404);
      assert.equal(application.asked.length, 0);
    }

    assert.equal(
      (await call(service.system, { method: 'POST', path: '/auth/logout', token: accessToken })).status,
      204,
    );
    assert.equal((await ask('/', bearer(accessToken))).status, 200, 'a signature knows nothing of the logout');
    assert.equal((await ask('/payments/1', bearer(accessToken))).status, 401);

    verifier.kill('SIGKILL');
    await once(verifier, 'exit');
    application.asked.length = 0;
    const unanswered = await ask('/', bearer(accessToken));
    assert.deepEqual([unanswered.status, unanswered.headers.get('retry-after')], [503, '5']);
    assert.equal(application.asked.length, 0);
  });
});

type Ports = { port: number; verifierPort: number; applicationPort: number; servicePort: number };

function readSite({ port, verifierPort, applicationPort, servicePort }: Ports): string {
  let site = readBlocks(page, 'Behind nginx', 'nginx')[0] ?? '';
  site = replaceOnce(site, 'listen 8080;', `listen 127.0.0.1:${port};`);
  site = replaceOnce(site, '127.0.0.1:8003/', `127.0.0.1:${verifierPort}/`);
  site = replaceOnce(site, '127.0.0.1:8000/users/me', `127.0.0.1:${servicePort}/users/me`);
  return site.replaceAll('127.0.0.1:8001', `127.0.0.1:${applicationPort}`);
}
