import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { newEmail } from './accounts.ts';
import { createAuthority } from './certificates.ts';
import { startMailServer } from './mail-server.ts';
import { get, post, startProgram } from './program.ts';
import { inScratch } from './scratch.ts';
import { until } from './until.ts';

describe('in production a mail server with a certificate of a private authority', () => {
  test('gets mail when NODE_EXTRA_CA_CERTS names the authority, and neither mail nor password before', () =>
    inScratch(async (scratch) => {
      const authority = createAuthority();
      const logins: string[] = [];
      const server = await startMailServer({
        authOptional: false,
        ...authority.issue(['localhost']),
        onAuth({ username, password }, _session, done) {
          logins.push(`${username}:${password}`);
          done(null, { user: username });
        },
      });
      const path = join(scratch.DATA_DIR, 'authority.pem');
      writeFileSync(path, authority.cert);
      const environment = {
        ...scratch,
        NODE_ENV: 'production',
        PUBLIC_URL: 'https://auth.example.com',
        SECRET_KEY: randomBytes(48).toString('base64'),
        MAIL_FROM: 'Example <no-reply@example.com>',
        SMTP_URL: `smtp://user:hunter2@localhost:${server.port}`,
        RATE_LIMITS: 'on',
        BCRYPT_COST: '10',
      };
      const wary = await startProgram(environment);
      const email = newEmail();
      assert.equal((await post(wary, '/auth/send-code', { email, purpose: 'registration' })).status, 202);
      await until(async () => (await get(wary, '/health/ready')).body.components.mail === 'down');
      await until(() => wary.output().includes('the mail server takes no mail'));
      assert.match(wary.output(), /"reason":"CONN failed: UNABLE_TO_VERIFY_LEAF_SIGNATURE"/);
      assert.doesNotMatch(wary.output(), /hunter2/);
      assert.equal((await wary.stop('SIGTERM')).code, 0);
      assert.deepEqual([logins, server.received], [[], []]);

      const trusting = await startProgram({ ...environment, NODE_EXTRA_CA_CERTS: path });
      await until(() => server.received.length === 1);
      const [mail] = server.received;
      assert.deepEqual([mail?.to, mail?.isEncrypted], [[email], true]);
      assert.ok(logins.every((login) => login === 'user:hunter2'));
      assert.equal((await get(trusting, '/health/ready')).body.components.mail, 'up');
      await trusting.stop('SIGTERM');
      await server.stop();
    }));
});
