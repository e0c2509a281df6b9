import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { text } from 'node:stream/consumers';
import { registerUser, type TestUser } from '../accounts.ts';
import { forgeWithoutKey, resign, type Tokens, takeApart } from '../hostile-tokens.ts';
import { findFreePort } from '../ports.ts';
import { type System, startSystem } from '../system.ts';

/** A service that listens under its own PUBLIC_URL, with a user, and tokens for whoever verifies them. */
export type TokenService = {
  system: System;
  issuer: string;
  port: number;
  user: TestUser;
  /** What every verifier must refuse, by what is wrong with it. */
  forgeries: Tokens;
  /** What every verifier must accept. */
  genuine: Tokens;
  close(): Promise<void>;
};

/** Starts a service and makes tokens, genuine and forged. */
export async function startTokenService(): Promise<TokenService> {
  const port = await findFreePort();
  const issuer = `http://127.0.0.1:${port}`;
  const system = await startSystem('sqlite+memory', { PUBLIC_URL: issuer });
  await system.app.listen({ host: '127.0.0.1', port });
  const user = await registerUser(system);
  const { genuine, forgeries } = await makeTokens(system, user);
  return { system, issuer, port, user, genuine, forgeries, close: () => system.close() };
}

async function makeTokens(system: System, user: TestUser): Promise<{ genuine: Tokens; forgeries: Tokens }> {
  const parts = takeApart(user.accessToken);
  const nowSeconds = Math.floor(system.clock.now() / 1000);
  const ours: [string, Record<string, unknown>, Record<string, unknown>][] = [
    ['an expired token', {}, { iat: nowSeconds - 1_800, exp: nowSeconds - 10 }],
    ['no exp', {}, { exp: undefined }],
    ['the aud of another service', {}, { aud: 'https://other.example.com' }],
    ['no aud', {}, { aud: undefined }],
    ['the iss of another service', {}, { iss: 'https://other.example.com' }],
    ['an iss with a slash', {}, { iss: `${parts.payload.iss}/` }],
    ['no iss', {}, { iss: undefined }],
    ['no sub', {}, { sub: undefined }],
    ['no sid', {}, { sid: undefined }],
    ['the typ of any JWT', { typ: 'JWT' }, {}],
    ['the typ of an ID token', { typ: 'id+jwt' }, {}],
    ['no typ', { typ: undefined }, {}],
    ['a typ that is a list', { typ: ['at+jwt'] }, {}],
    ['an unknown kid', { kid: 'unknown' }, {}],
    ['a kid that is a list', { kid: [parts.header.kid] }, {}],
    ['the alg of another curve', { alg: 'ES384' }, {}],
  ];
  const forgeries: Tokens = {};
  for (const [what, header, payload] of ours) forgeries[what] = await resign(system, parts, header, payload);
  const elsewhere = 'http://127.0.0.1:9/jwks.json';
  for (const [what, token] of Object.entries(await forgeWithoutKey(system, parts, elsewhere))) {
    // Other spellings of the same bytes say the same: a lenient decoder of base64 is not deceived by them.
    if (!/padded|unused bits/.test(what)) forgeries[what] = token;
  }
  const genuine = {
    'the token of a registration': user.accessToken,
    'the long form of typ': await resign(system, parts, { typ: 'application/at+jwt' }),
  };
  return { genuine, forgeries };
}

/** A server of HTTP and what was asked of it. */
export type Listener = { port: number; server: Server; asked: Record<string, string | string[] | undefined>[] };

/** An application behind a proxy: it answers everything with what it got, and keeps the headers that reached it. */
export async function startApplication(): Promise<Listener> {
  const port = await findFreePort();
  const asked: Listener['asked'] = [];
  const server = createServer(async (request, response) => {
    asked.push(request.headers);
    response.end(`${request.method} ${await text(request)}`);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return { port, server, asked };
}

/** A JWKS that counts how often it was fetched, and can be told to fail. */
export async function startKeyServer(jwks: unknown): Promise<Listener & { fails: boolean }> {
  const port = await findFreePort();
  const listener = { port, asked: [] as Listener['asked'], fails: false };
  const body = JSON.stringify(jwks);
  const server = createServer((request, response) => {
    listener.asked.push(request.headers);
    response.writeHead(listener.fails ? 503 : 200, { 'content-type': 'application/json' });
    response.end(body);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return Object.assign(listener, { server });
}
