import assert from 'node:assert/strict';
import { execFile, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { request } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { newEmail } from './accounts.ts';
import { newSecret } from './config.ts';
import { type MailServer, readHeaders, startMailServer } from './mail-server.ts';
import { findFreePort } from './ports.ts';
import { type Program, startProgram } from './program.ts';
import { readSqlite } from './scratch.ts';
import { createScratch } from './system.ts';
import { until } from './until.ts';

const run = promisify(execFile);
const compose = join(import.meta.dirname, '../deploy/compose');
const hasCaddy = process.env.REQUIRE_CADDY !== undefined || spawnSync('caddy', ['version']).status === 0;

describe('behind the proxy of compose.yaml', { skip: !hasCaddy && 'caddy is not installed' }, () => {
  const cleanUp = new AsyncDisposableStack();
  after(() => cleanUp.disposeAsync());
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-caddy-'));
  const authority = join(folder, 'caddy/pki/authorities/local/root.crt');
  const clientAddress = '127.0.0.11';
  let mail: MailServer;
  let program: Program;
  let dataDir: string;
  let mailboxPort: number;
  let ports: { site: number; mailbox: number };

  before(async () => {
    cleanUp.defer(() => rmSync(folder, { recursive: true, force: true }));
    mail = await startMailServer();
    cleanUp.defer(mail.stop);
    const scratch = await createScratch('sqlite+memory');
    cleanUp.defer(scratch.remove);
    dataDir = scratch.environment['DATA_DIR'] ?? '';
    program = await startProgram({
      ...scratch.environment,
      NODE_ENV: 'production',
      BCRYPT_COST: '10',
      RATE_LIMITS: 'on',
      SECRET_KEY: newSecret(),
      PUBLIC_URL: 'https://localhost:8443',
      SMTP_URL: mail.url,
      MAIL_FROM: 'no-reply@localhost',
      TRUST_PROXY: '127.0.0.1',
    });
    cleanUp.defer(async () => void (await program.stop('SIGKILL')));
    mailboxPort = await startMailbox();
    ports = { site: await findFreePort(), mailbox: await findFreePort() };
    await startCaddy();
  });

  /** Mailpit's list of messages, as far as it is read here. */
  async function startMailbox(): Promise<number> {
    const port = await findFreePort();
    const server = createServer((_request, response) => {
      const messages = mail.received.map(({ to, data }) => ({
        To: to.map((Address) => ({ Address })),
        Subject: readHeaders(data).get('subject')?.[0],
      }));
      response.setHeader('content-type', 'application/json').end(JSON.stringify({ messages }));
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    cleanUp.defer(() => void server.close());
    return port;
  }

  async function startCaddy(): Promise<void> {
    const child = spawn('caddy', ['run', '--config', join(compose, 'Caddyfile'), '--adapter', 'caddyfile'], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        PATH: process.env.PATH,
        HOME: folder,
        XDG_DATA_HOME: folder,
        XDG_CONFIG_HOME: folder,
        SITE_ADDRESS: `https://localhost:${ports.site}`,
        UPSTREAM: `127.0.0.1:${program.port}`,
        MAIL_ADDRESS: `https://localhost:${ports.mailbox}`,
        MAIL_UPSTREAM: `127.0.0.1:${mailboxPort}`,
      },
    });
    let output = '';
    child.stderr.on('data', (chunk: Buffer) => {
      output += chunk;
    });
    process.on('exit', () => child.kill('SIGKILL'));
    cleanUp.defer(async () => {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    });
    await until(async () => {
      assert.equal(child.exitCode, null, output);
      return existsSync(authority) && (await listens(ports.site)) && (await listens(ports.mailbox));
    }, 20_000);
  }

  test('the smoke test of CI makes an account', async () => {
    const env = {
      PATH: process.env.PATH,
      NODE_EXTRA_CA_CERTS: authority,
      ORIGIN: `https://localhost:${ports.site}`,
      MAILBOX: `https://localhost:${ports.mailbox}`,
    };
    const { stdout, stderr } = await run(process.execPath, [join(compose, 'smoke.ts')], { env });
    assert.equal(stdout + stderr, '');
  });

  test('the address of a client is the one that the proxy saw, whatever the client writes', async () => {
    for (const header of ['X-Forwarded-For', 'Forwarded', 'X-Real-IP']) {
      const body = JSON.stringify({ email: newEmail(), password: 'a wrong password' });
      const outgoing = request({
        host: 'localhost',
        family: 4,
        port: ports.site,
        localAddress: clientAddress,
        ca: readFileSync(authority),
        method: 'POST',
        path: '/auth/login',
        headers: {
          'content-type': 'application/json',
          [header]: header === 'Forwarded' ? 'for=203.0.113.7' : '203.0.113.7',
        },
      });
      outgoing.end(body);
      const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
      response.resume();
      assert.equal(response.statusCode, 401);
      const [event] = readSqlite(
        join(dataDir, 'latchkey.db'),
        "select client_address from audit_events where type = 'login.failed' order by rowid desc limit 1",
      );
      assert.equal(event?.['client_address'], clientAddress, header);
    }
  });
});

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
