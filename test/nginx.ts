import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { createAuthority } from './certificates.ts';
import type { Reply } from './client.ts';
import { parseReply } from './hostile-socket.ts';
import { findFreePort } from './ports.ts';
import { until } from './until.ts';

const binary = ['/usr/sbin/nginx', '/usr/bin/nginx'].find((path) => existsSync(path));
const recommended = join(import.meta.dirname, '../deploy/nginx/latchkey.conf');

/** Why there is no nginx to test with; false where there is, or where CI requires it. */
export const reasonForNoNginx: string | false =
  binary === undefined && process.env.REQUIRE_NGINX === undefined && 'nginx is not installed';

/** The name that the recommended configuration serves. */
export const serverName = 'auth.example.com';

/** A running nginx. */
export type Nginx = { port: number; pid: number; ca: string; stop(): Promise<void> };

type NginxOptions = {
  /** The port of 127.0.0.1 that it passes requests to. */
  upstreamPort: number;
  /** The address from which it connects to there, which is what TRUST_PROXY names. */
  address: string;
  /** Behind another proxy: adds to X-Forwarded-For, and speaks without TLS. */
  isInner?: boolean;
};

/**
 * Starts nginx in the foreground with the recommended configuration. Only ports, certificate and the address that it
 * connects from are others, because several run on this one machine.
 */
export async function startNginx({ upstreamPort, address, isInner = false }: NginxOptions): Promise<Nginx> {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-nginx-'));
  const [port, plainPort] = [await findFreePort(), await findFreePort()];
  const authority = createAuthority();
  const { cert, key } = authority.issue([serverName]);
  writeFileSync(join(folder, 'tls.crt'), cert);
  writeFileSync(join(folder, 'tls.key'), key, { mode: 0o600 });
  let site = replaceOnce(
    readFileSync(recommended, 'utf8'),
    'server 127.0.0.1:8000;',
    `server 127.0.0.1:${upstreamPort};`,
  );
  site = replaceOnce(site, '  listen [::]:80;\n', '');
  site = replaceOnce(site, '  listen [::]:443 ssl http2;\n', '');
  site = replaceOnce(site, 'listen 80;', `listen 127.0.0.1:${plainPort};`);
  site = replaceOnce(site, 'listen 443 ssl http2;', `listen 127.0.0.1:${port}${isInner ? '' : ' ssl http2'};`);
  site = replaceOnce(site, '/etc/nginx/latchkey/auth.example.com.crt', join(folder, 'tls.crt'));
  site = replaceOnce(site, '/etc/nginx/latchkey/auth.example.com.key', join(folder, 'tls.key'));
  if (isInner)
    site = replaceOnce(site, 'X-Forwarded-For   $remote_addr;', 'X-Forwarded-For $proxy_add_x_forwarded_for;');
  return { ...(await runNginx(folder, { site, port, address })), ca: authority.cert };
}

/** Runs nginx in the foreground with the site in the folder, and removes both when it stops. */
export async function runNginx(
  folder: string,
  { site, port, address }: { site: string; port: number; address: string },
): Promise<Omit<Nginx, 'ca'>> {
  writeFileSync(join(folder, 'site.conf'), site);
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  writeFileSync(
    join(folder, 'nginx.conf'),
    `daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log;
events { worker_connections 1024; }
http {
  access_log off;
  ${paths.map((name) => `${name}_temp_path ${folder}/${name};`).join('\n  ')}
  proxy_bind ${address};
  include ${folder}/site.conf;
}
`,
  );
  const child = spawn(
    binary ?? 'nginx',
    ['-p', folder, '-e', join(folder, 'error.log'), '-c', join(folder, 'nginx.conf')],
    {
      stdio: 'ignore',
    },
  );
  const stop = async () => {
    await end(child);
    rmSync(folder, { recursive: true, force: true });
  };
  // A test that fails must leave no process behind.
  process.on('exit', () => child.kill('SIGKILL'));
  try {
    await until(async () => {
      if (child.exitCode !== null) throw new Error(readFileSync(join(folder, 'error.log'), 'utf8'));
      return listensOn(port);
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return { port, pid: child.pid ?? 0, stop };
}

/** Replaces what a configuration that readers copy has exactly once. */
export function replaceOnce(text: string, found: string, replacement: string): string {
  assert.equal(text.split(found).length, 2, `the configuration has no ${found}, or several`);
  return text.replace(found, () => replacement);
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}

async function listensOn(port: number): Promise<boolean> {
  const socket = connectTcp({ host: '127.0.0.1', port });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** How a client comes: to which port, from which of the addresses of this machine, and with TLS where there is a CA. */
export type Way = { port: number; ca?: string; from?: string };

/** Sends bytes and reads until the other side closes the connection, or says nothing more for a second. */
export async function converseOver({ port, ca, from = '127.0.0.1' }: Way, bytes: string): Promise<string> {
  const options = { host: '127.0.0.1', port, localAddress: from };
  const socket =
    ca === undefined
      ? connectTcp(options)
      : connectTls({ ...options, ca, servername: serverName, ALPNProtocols: ['http/1.1'] });
  let received = '';
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    received += chunk;
  });
  // A server that refuses without reading everything may reset the connection after its reply.
  socket.on('error', () => {});
  socket.setTimeout(1_000, () => socket.destroy());
  await once(socket, ca === undefined ? 'connect' : 'secureConnect');
  socket.write(bytes, 'latin1');
  await once(socket, 'close');
  return received;
}

/** Makes one request with exactly these header lines. */
export async function ask(way: Way, start: string, headers: readonly string[], body?: unknown): Promise<Reply> {
  const text = body === undefined ? '' : JSON.stringify(body);
  const framing = body === undefined ? [] : ['Content-Type: application/json', `Content-Length: ${text.length}`];
  const lines = [`${start} HTTP/1.1`, `Host: ${serverName}`, 'Connection: close', ...framing, ...headers];
  return parseReply(await converseOver(way, `${lines.join('\r\n')}\r\n\r\n${text}`));
}
