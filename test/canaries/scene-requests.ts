import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { type Call, call, type Reply } from '../client.ts';
import { listSecrets, withoutTokens } from './exchange-secrets.ts';
import type { Scene } from './scene.ts';

let clients = 0;

/** Makes a request from an address of its own, and remembers what is secret in it and in the reply. */
export async function ask(
  scene: Scene,
  method: Call['method'],
  path: string,
  rest: Partial<Call> = {},
): Promise<Reply> {
  clients += 1;
  const remoteAddress = `10.${clients >> 16}.${(clients >> 8) & 255}.${clients & 255}`;
  const answer = await call(scene.system, { method, path, remoteAddress, ...rest });
  // The `code` of a problem is no code.
  const handedOver = answer.status < 300 ? answer.body : undefined;
  for (const body of [rest.body, handedOver])
    for (const [kind, secret] of listSecrets(body)) scene.vault.note(kind, secret);
  scene.replies.push(withoutTokens(`${method} ${JSON.stringify(answer.headers)} ${answer.text}`));
  return answer;
}

/** An address that the search knows. */
export function newAddress(scene: Scene): string {
  const address = `person-${randomBytes(9).toString('hex')}@example.com`;
  scene.addresses.push(address);
  return address;
}

/** A password that every encoding changes. */
export const newPassword = () => `pässword "${randomBytes(15).toString('base64')}"`;

/** Asks for a code and reads it from the mail, after the pause between two. */
export async function askForCode(scene: Scene, email: string, purpose: string): Promise<string> {
  scene.system.clock.advanceSeconds(61);
  await ask(scene, 'POST', '/auth/send-code', { body: { email, purpose } });
  return readCode(scene, email);
}

/** Reads the newest code that was mailed to an address. */
export async function readCode({ system, mail, vault }: Scene, email: string): Promise<string> {
  await system.deps.outbox.deliverDue();
  const subjects = mail.received
    .filter(({ to }) => to.includes(email))
    .map(({ data }) => /^Subject: (.+)/m.exec(data)?.[1]);
  const code = subjects.findLast((subject) => subject?.includes(' is your code'))?.slice(0, 6) ?? '';
  assert.equal(code.length, 6, subjects.join());
  vault.note('code', code);
  return code;
}

/** Proves an address for a purpose. */
export async function prove(scene: Scene, email: string, purpose: string): Promise<string> {
  const code = await askForCode(scene, email, purpose);
  return (await verify(scene, email, purpose, code)).body.verification_token;
}

/** Presents a code. */
export function verify(scene: Scene, email: string, purpose: string, code: string): Promise<Reply> {
  return ask(scene, 'POST', '/auth/verify-code', { body: { email, purpose, code } });
}

/** Registers an account. */
export async function registerPerson(scene: Scene) {
  const [email, password] = [newAddress(scene), newPassword()];
  const verification_token = await prove(scene, email, 'registration');
  const { body, status } = await ask(scene, 'POST', '/auth/register', { body: { verification_token, password } });
  assert.equal(status, 201);
  return { email, password, token: body.access_token as string, refreshToken: body.refresh_token as string };
}

/** A request that is no part of the API's contract; what came back is kept all the same. */
export async function refuse(
  { system, replies }: Scene,
  method: 'GET' | 'POST' | 'DELETE',
  url: string,
  rest: Partial<Call>,
) {
  const { rawBody, headers = {} } = rest;
  const remoteAddress = `10.200.${replies.length >> 8}.${replies.length & 255}`;
  const options = { method, url, headers, remoteAddress, ...(rawBody === undefined ? {} : { payload: rawBody }) };
  const { body, headers: replied } = await system.app.inject(options);
  replies.push(`${JSON.stringify(replied)} ${body}`);
}
