import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { encodeRequest, type LoadReply } from './http-connection.ts';
import { expectStatus } from './load.ts';
import { versionOf } from './machine.ts';
import { startServer } from './program.ts';
import { inChains, inTurn, type Subject } from './subject.ts';

const folderOfPeers = join(import.meta.dirname, 'peers');
const password = 'correct horse battery staple';

export type PeerOptions = { users: number; chains: number };

/** Installs what the peers are, exactly as their lockfile says, unless that was done before. */
export function installPeers(): void {
  if (existsSync(join(folderOfPeers, 'node_modules'))) return;
  execFileSync('npm', ['ci'], { cwd: folderOfPeers, stdio: ['ignore', 'ignore', 'inherit'] });
}

/** The versions of the peers that are installed. */
export function describePeers(): Record<string, string> {
  const require = createRequire(join(folderOfPeers, 'package.json'));
  return Object.fromEntries(['better-auth', 'oidc-provider'].map((name) => [name, versionOf(require, name)]));
}

/** better-auth: its session read, and its sign-in by e-mail. It has nothing that exchanges one token for the next. */
export async function startBetterAuth({ users }: PeerOptions): Promise<Subject> {
  const peer = await startPeer('better-auth', users);
  const { origin } = peer.process;
  const sample: { email: string; cookie: string }[] = JSON.parse(readFileSync(peer.samplePath, 'utf8'));
  const half = sample.length >> 1;
  const reads = sample
    .slice(0, half)
    .map(({ cookie }) => encodeRequest(origin, { method: 'GET', path: '/api/auth/get-session', headers: { cookie } }));
  const entering = sample.slice(half);
  const logins = entering.map(({ email }) =>
    encodeRequest(origin, {
      method: 'POST',
      path: '/api/auth/sign-in/email',
      headers: { origin },
      body: JSON.stringify({ email, password }),
    }),
  );
  return {
    ...peer,
    read: inTurn(reads, (reply, index) => expectInBody(reply, `"email":"${sample[index]?.email}"`)),
    readFirst: undefined,
    refresh: undefined,
    login: inTurn(logins, (reply, index) => {
      expectInBody(reply, `"email":"${entering[index]?.email}"`);
      expectInBody(reply, '"token":"');
    }),
    async checkRotations() {},
  };
}

/** oidc-provider: its userinfo, and the refresh grant with rotation. How somebody logs in is left to its user. */
export async function startOidcProvider({ users, chains }: PeerOptions): Promise<Subject> {
  const peer = await startPeer('oidc-provider', users);
  const { origin } = peer.process;
  const sample: { sub: string; accessToken: string; refreshToken: string }[] = JSON.parse(
    readFileSync(peer.samplePath, 'utf8'),
  );
  const reading = sample.slice(chains);
  const reads = reading.map(({ accessToken }) =>
    encodeRequest(origin, { method: 'GET', path: '/me', headers: { authorization: `Bearer ${accessToken}` } }),
  );
  const chain = inChains(
    sample.slice(0, chains).map(({ refreshToken }) => refreshToken),
    { encode: (token) => encodeGrant(origin, token), read: readGrant },
  );
  return {
    ...peer,
    read: inTurn(reads, (reply, index) => expectInBody(reply, `"sub":"${reading[index]?.sub}"`)),
    readFirst: undefined,
    refresh: chain.traffic,
    login: undefined,
    async checkRotations() {
      const answered = chain.counts().reduce((sum, count) => sum + count, 0);
      const database = new DatabaseSync(peer.databasePath, { readOnly: true });
      const consumed = database
        .prepare(`select count(*) as count from models where model = 'RefreshToken' and consumed_at is not null`)
        .get()?.count;
      database.close();
      if (consumed !== answered)
        throw new Error(`${answered} refreshes were answered, and ${consumed} tokens consumed`);
    },
  };
}

function encodeGrant(origin: string, refreshToken: string): Buffer {
  const body = new URLSearchParams({ grant_type: 'refresh_token', client_id: 'bench', refresh_token: refreshToken });
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  return encodeRequest(origin, { method: 'POST', path: '/token', headers, body: body.toString() });
}

function readGrant(reply: LoadReply): string | undefined {
  expectStatus(reply, 200);
  return /"refresh_token":"([^"]+)"/.exec(reply.body.toString('latin1'))?.[1];
}

function expectInBody(reply: LoadReply, text: string): void {
  expectStatus(reply, 200);
  if (!reply.body.includes(text)) throw new Error(`${text} was expected in ${reply.body.toString().slice(0, 500)}`);
}

async function startPeer(name: 'better-auth' | 'oidc-provider', users: number) {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-'));
  const [databasePath, samplePath] = [join(folder, 'peer.db'), join(folder, 'sample.json')];
  const readyPath = name === 'better-auth' ? '/api/auth/ok' : '/.well-known/openid-configuration';
  const start = ({ environment = {}, nodeFlags = [] }: Parameters<Subject['restart']>[0] = {}) =>
    startServer({
      entry: join(folderOfPeers, `${name}-server.ts`),
      folder,
      nodeFlags,
      readyPath,
      environment: {
        NODE_ENV: 'production',
        DATABASE: databasePath,
        SAMPLE: samplePath,
        USERS: String(users),
        PASSWORD: password,
        ...environment,
      },
    });
  const process = await start();
  return {
    server: name,
    users,
    process,
    databasePath,
    samplePath,
    restart: start,
    async close() {
      await process.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** All peers. */
export const peers: readonly ((options: PeerOptions) => Promise<Subject>)[] = [startBetterAuth, startOidcProvider];
