import assert from 'node:assert/strict';
import { newSecret } from '../config.ts';
import type { PrivateServer } from '../faults/servers.ts';
import { converse, host } from '../hostile-socket.ts';
import { until } from '../until.ts';
import { keepRedis, type Scene, setRedisPassword } from './scene.ts';
import {
  ask,
  askForCode,
  newAddress,
  newPassword,
  prove,
  readCode,
  refuse,
  registerPerson,
  verify,
} from './scene-requests.ts';

/** Goes through every flow as it should go. */
export async function walkFlows(scene: Scene): Promise<void> {
  const person = await registerPerson(scene);
  const { email, token } = person;
  await askForCode(scene, email, 'login');
  scene.system.clock.advanceSeconds(61);
  await ask(scene, 'POST', '/auth/send-code', { body: { email, purpose: 'registration' } });
  await ask(scene, 'POST', '/auth/login', { body: { email, password: person.password } });
  const proof = await prove(scene, email, 'login');
  await ask(scene, 'POST', '/auth/login/code', { body: { verification_token: proof } });
  await ask(scene, 'POST', '/auth/reauthenticate', { token, body: { password: person.password } });
  for (const path of ['/users/me', '/users/me/sessions', '/users/me/export']) await ask(scene, 'GET', path, { token });
  await ask(scene, 'PATCH', '/users/me', { token, body: { name: 'Ada' } });
  const password = newPassword();
  const change = { current_password: person.password, new_password: password };
  await ask(scene, 'PUT', '/users/me/password', { token, body: change });
  const nextEmail = newAddress(scene);
  await ask(scene, 'POST', '/auth/reauthenticate', { token, body: { password } });
  assert.equal((await ask(scene, 'POST', '/users/me/email', { token, body: { email: nextEmail } })).status, 202);
  const code = await readCode(scene, nextEmail);
  const moved = (await verify(scene, nextEmail, 'email_change', code)).body.verification_token;
  assert.equal(
    (await ask(scene, 'PUT', '/users/me/email', { token, body: { verification_token: moved } })).status,
    200,
  );
  // A reuse: one rotation, and the old token again after the grace.
  const other = await ask(scene, 'POST', '/auth/login', { body: { email: nextEmail, password } });
  const { refresh_token } = other.body;
  const rotated = await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token } });
  await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token } });
  scene.system.clock.advanceSeconds(31);
  assert.equal((await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token } })).status, 401);
  await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token: rotated.body.refresh_token } });
  const reset = await prove(scene, nextEmail, 'password_reset');
  const body = { verification_token: reset, new_password: newPassword() };
  assert.equal((await ask(scene, 'POST', '/auth/reset-password', { body })).status, 204);
  const leaver = await registerPerson(scene);
  await ask(scene, 'POST', '/auth/logout', { body: { refresh_token: (await registerPerson(scene)).refreshToken } });
  assert.equal((await ask(scene, 'DELETE', '/users/me', { token: leaver.token })).status, 204);
  await scene.system.deps.outbox.deliverDue();
}

/** Goes through every refusal, with secrets where they do not belong. */
export async function walkRefusals(scene: Scene): Promise<void> {
  const { system, vault } = scene;
  const { email, token, password, refreshToken } = await registerPerson(scene);
  const wrong = newPassword();
  await ask(scene, 'POST', '/auth/login', { body: { email, password: wrong } });
  await ask(scene, 'POST', '/auth/login', { body: { email: newAddress(scene), password: wrong } });
  await ask(scene, 'POST', '/auth/reauthenticate', { token, body: { password: wrong } });
  await ask(scene, 'PUT', '/users/me/password', { token, body: { current_password: wrong, new_password: wrong } });
  await ask(scene, 'PUT', '/users/me/password', {
    token,
    body: { current_password: password, new_password: 'password123' },
  });
  await ask(scene, 'POST', '/auth/send-code', { body: { email, purpose: 'login' } });
  for (const guess of ['7KQ2ZD', 'ZZZZZ7', 'no code']) await verify(scene, email, 'login', guess);
  const taken = await askForCode(scene, newAddress(scene), 'registration');
  const racer = scene.addresses.at(-1) ?? '';
  const proofs = [(await verify(scene, racer, 'registration', taken)).body.verification_token];
  scene.system.clock.advanceSeconds(61);
  await ask(scene, 'POST', '/auth/reauthenticate', { token, body: { password } });
  await ask(scene, 'POST', '/users/me/email', { token, body: { email: racer } });
  const change = (await verify(scene, racer, 'email_change', await readCode(scene, racer))).body.verification_token;
  for (const verification_token of proofs)
    await ask(scene, 'POST', '/auth/register', { body: { verification_token, password } });
  await ask(scene, 'POST', '/auth/register', { body: { verification_token: proofs[0], password } });
  await ask(scene, 'PUT', '/users/me/email', { token, body: { verification_token: change } });
  await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token: `${refreshToken.slice(0, -6)}AAAAAA` } });

  // Secrets where they do not belong, and bodies that cannot be read.
  const stray = newSecret();
  vault.note('a stray secret', stray);
  const json = { 'content-type': 'application/json' };
  const bodies = [
    `{"email":"${email}","password":"${wrong}`,
    `{"password":"${stray}"`,
    `"${stray}"`,
    `[${stray}]`,
    stray,
  ];
  bodies.push(
    JSON.stringify({ email, password: wrong, unknown: stray }),
    JSON.stringify({ email: stray, password: [stray] }),
  );
  bodies.push(JSON.stringify({ email, password: `${stray}${'x'.repeat(300)}` }), `{"a":"${stray}","a":1}`);
  for (const path of ['/auth/login', '/auth/register', '/auth/refresh', '/auth/verify-code'])
    for (const rawBody of bodies) await refuse(scene, 'POST', path, { rawBody, headers: json });
  await refuse(scene, 'POST', '/auth/login', { rawBody: stray, headers: { 'content-type': `text/${stray}` } });
  await refuse(scene, 'POST', '/auth/login', { rawBody: stray.repeat(1_000), headers: json });
  for (const path of [`/${stray}`, `/users/me?access_token=${stray}`, `/users/me/sessions/${stray}`, `/%zz${stray}`]) {
    await refuse(scene, 'GET', path, {});
    await refuse(scene, 'DELETE', path, { headers: { authorization: `Bearer ${stray}` } });
  }
  const authorizations = [`Bearer ${stray}`, `Basic ${btoa(`user:${stray}`)}`, `Bearer ${token}x`, stray];
  for (const authorization of authorizations)
    for (const path of ['/users/me', '/metrics']) await refuse(scene, 'GET', path, { headers: { authorization } });
  await refuse(scene, 'GET', '/metrics', { headers: { authorization: `Bearer ${scene.metricsToken}` } });
  for (const bytes of [
    `${stray}\r\n\r\n`,
    `GET /${stray} HTTP/9.9\r\n\r\n`,
    `GET / HTTP/1.1\r\n${host}\r\nX-Token: ${stray.repeat(600)}\r\n\r\n`,
    `POST /auth/login HTTP/1.1\r\n${host}\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n${stray}\r\n`,
    `GET / HTTP/1.1\r\n${host}\r\nExpect: ${stray}\r\nConnection: close\r\n\r\n`,
  ])
    scene.replies.push(await converse(system, bytes));
}

/** Lets every component fail, one after the other, with requests under way. */
export async function walkFailures(scene: Scene): Promise<void> {
  const { system, postgres, redis } = scene;
  const { deps } = system;
  const { email, token, password, refreshToken } = await registerPerson(scene);
  const requests = async () => {
    await ask(scene, 'GET', '/users/me', { token });
    await ask(scene, 'POST', '/auth/login', { body: { email, password } });
    await ask(scene, 'POST', '/auth/refresh', { body: { refresh_token: refreshToken } });
    system.clock.advanceSeconds(61);
    await ask(scene, 'POST', '/auth/send-code', { body: { email, purpose: 'login' } });
    await verify(scene, email, 'login', '7KQ2ZD');
    await ask(scene, 'POST', '/auth/register', {
      body: { verification_token: `${'a'.repeat(22)}.${newSecret()}`, password },
    });
  };
  // A proof that nobody uses is what short-lived state holds.
  await prove(scene, newAddress(scene), 'registration');
  if (redis !== undefined) await keepRedis(scene);
  // Hash queue: one works, one waits, and the others are refused.
  await Promise.all(Array.from({ length: 6 }, () => ask(scene, 'POST', '/auth/login', { body: { email, password } })));
  // Statements that fail with their parameters at hand.
  for (const table of ['sessions', 'audit_events', 'outbox', 'users'] as const) {
    await deps.db.schema.alterTable(table).renameTo(`${table}_away`).execute();
    await requests();
    await deps.outbox.deliverDue().catch(() => {});
    await deps.db.schema.alterTable(`${table}_away`).renameTo(table).execute();
  }
  scene.mailRefuses = true;
  for (let round = 0; round < 3; round += 1) {
    system.clock.advanceSeconds(400);
    await requests();
    await deps.outbox.deliverDue();
  }
  if (postgres !== undefined && redis !== undefined) await breakBackends(scene, postgres, redis, requests);
  // One mail is left waiting.
  await scene.mail.stop();
  system.clock.advanceSeconds(61);
  const waiting = await ask(scene, 'POST', '/auth/send-code', {
    body: { email: newAddress(scene), purpose: 'registration' },
  });
  assert.equal(waiting.status, 202);
}

async function breakBackends(
  scene: Scene,
  postgres: PrivateServer,
  redis: PrivateServer,
  requests: () => Promise<void>,
): Promise<void> {
  const { deps } = scene.system;
  await redis.stop();
  await requests();
  await redis.start().catch(() => {});
  await postgres.stop();
  await requests();
  await deps.outbox.deliverDue().catch(() => {});
  await deps.scrape();
  await postgres.start();
  await setRedisPassword(redis.url, scene.redisPassword);
  await until(() =>
    deps.database.ping().then(
      () => true,
      () => false,
    ),
  );
  await until(() => deps.redis?.isReady === true, 10_000);
}
