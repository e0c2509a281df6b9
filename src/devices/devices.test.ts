import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  goodPassword,
  newEmail,
  newestMail,
  proveAddress,
  registerUser,
  subjectsOfMails,
  type TestUser,
} from '../../test/accounts.ts';
import { type Call, call, type Reply } from '../../test/client.ts';
import { describeOnBackends } from '../../test/system.ts';
import { createKeyring } from '../crypto/secrets.ts';
import { noticeDevice } from './flow.ts';

const firefox = 'Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0';
const newerFirefox = 'Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0';
const firefoxOnWindows = 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0';
const chrome = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36';
const home = '203.0.113.7';
const subject = 'New login to your account';

describeOnBackends('new device notice', {}, (system) => {
  /** Where a request comes from. */
  type Place = { userAgent?: string; remoteAddress?: string };

  function from(request: Call, { userAgent = firefox, remoteAddress = home }: Place): Call {
    return { ...request, headers: { 'user-agent': userAgent }, remoteAddress };
  }

  async function register(place: Place = {}): Promise<TestUser> {
    const email = newEmail();
    const verification_token = await proveAddress(system(), email, 'registration');
    const body = { verification_token, password: goodPassword };
    const reply = await call(system(), from({ method: 'POST', path: '/auth/register', body }, place));
    assert.equal(reply.status, 201, reply.text);
    const { access_token: accessToken, refresh_token: refreshToken } = reply.body;
    return { id: reply.body.user.id, email, password: goodPassword, accessToken, refreshToken };
  }

  function attempt(user: TestUser, place: Place, password = user.password): Promise<Reply> {
    const body = { email: user.email, password };
    return call(system(), from({ method: 'POST', path: '/auth/login', body }, place));
  }

  async function logInFrom(user: TestUser, place: Place = {}): Promise<void> {
    assert.equal((await attempt(user, place)).status, 200);
  }

  async function noticesTo(user: TestUser): Promise<number> {
    return (await subjectsOfMails(system(), user.email)).filter((line) => line === subject).length;
  }

  function devicesOf(user: TestUser) {
    return system().deps.db.selectFrom('known_devices').selectAll().where('user_id', '=', user.id).execute();
  }

  test('a login from the device of the registration is no news', async () => {
    const user = await register();
    await logInFrom(user);
    assert.equal(await noticesTo(user), 0);
    assert.equal((await devicesOf(user)).length, 1);
  });

  test('a login from another browser is told once, with the device, the address and the time', async () => {
    const user = await register();
    system().clock.advanceSeconds(60);
    await logInFrom(user, { userAgent: chrome });
    assert.equal(await noticesTo(user), 1);
    const { text = '' } = (await newestMail(system(), user.email)) ?? {};
    const time = new Date(system().clock.now()).toISOString();
    assert.ok(text.includes(`Device: Chrome on Linux. Address: ${home}. Time: ${time}.`), text);
    await logInFrom(user, { userAgent: chrome });
    await logInFrom(user);
    assert.equal(await noticesTo(user), 1);
  });

  test('the notice is one mail to the owner, and no one else is told', async () => {
    const user = await register();
    const { mailbox, outbox } = system().deps;
    await outbox.deliverDue();
    const sent = mailbox?.sent() ?? 0;
    await logInFrom(user, { userAgent: chrome });
    await outbox.deliverDue();
    assert.equal(mailbox?.sent(), sent + 1);
    assert.equal(mailbox?.list()[0]?.to, user.email);
  });

  test('the same browser on another operating system is another device', async () => {
    const user = await register();
    await logInFrom(user, { userAgent: firefoxOnWindows });
    assert.equal(await noticesTo(user), 1);
  });

  test('an update of the browser is no new device', async () => {
    const user = await register();
    await logInFrom(user, { userAgent: newerFirefox });
    assert.equal(await noticesTo(user), 0);
  });

  test('another address of the same IPv4 /16 is no news, one outside it is', async () => {
    const user = await register();
    for (const remoteAddress of ['203.0.113.8', '203.0.0.1', '203.0.255.255', '::ffff:203.0.113.9']) {
      await logInFrom(user, { remoteAddress });
    }
    assert.equal(await noticesTo(user), 0);
    await logInFrom(user, { remoteAddress: '203.1.113.7' });
    assert.equal(await noticesTo(user), 1);
    await logInFrom(user, { remoteAddress: '198.51.100.7' });
    assert.equal(await noticesTo(user), 2);
  });

  test('another address of the same IPv6 /32 is no news, one outside it is', async () => {
    const user = await register({ remoteAddress: '2001:db8:1::1' });
    for (const remoteAddress of ['2001:db8:1::2', '2001:db8:ffff:ffff::1']) await logInFrom(user, { remoteAddress });
    assert.equal(await noticesTo(user), 0);
    await logInFrom(user, { remoteAddress: '2001:db9:1::1' });
    assert.equal(await noticesTo(user), 1);
  });

  test('a client that does not say what it is is a device like any other', async () => {
    const user = await register();
    await logInFrom(user, { userAgent: '' });
    assert.equal(await noticesTo(user), 1);
    assert.match((await newestMail(system(), user.email))?.text ?? '', /Device: unknown\. Address: 203\.0\.113\.7\./);
    await logInFrom(user, { userAgent: '' });
    assert.equal(await noticesTo(user), 1);
  });

  test('a login by e-mailed code is told too', async () => {
    const user = await register();
    for (const expected of [1, 1]) {
      system().clock.advanceSeconds(61);
      const verification_token = await proveAddress(system(), user.email, 'login');
      const request: Call = { method: 'POST', path: '/auth/login/code', body: { verification_token } };
      assert.equal((await call(system(), from(request, { userAgent: chrome }))).status, 200);
      assert.equal(await noticesTo(user), expected);
    }
  });

  test('a failed login makes no device known and tells nobody', async () => {
    const user = await register();
    assert.equal((await attempt(user, { userAgent: chrome }, 'not the password')).status, 401);
    assert.equal((await devicesOf(user)).length, 1);
    assert.equal(await noticesTo(user), 0);
    await logInFrom(user, { userAgent: chrome });
    assert.equal(await noticesTo(user), 1);
  });

  test('what one user’s device is says nothing about another’s', async () => {
    const [one, other] = [await register(), await register({ userAgent: chrome })];
    await logInFrom(other);
    assert.equal(await noticesTo(other), 1);
    const digests = [...(await devicesOf(one)), ...(await devicesOf(other))].map((device) => device.fingerprint);
    assert.equal(new Set(digests).size, 3, 'the same device has another digest for each user');
  });

  test('text that a client puts into its user agent never gets into the mail', async () => {
    const user = await register();
    const userAgent = 'Your account is locked: visit http://evil.example/now to win/1.0 x';
    await logInFrom(user, { userAgent });
    const mail = await newestMail(system(), user.email);
    assert.equal(mail?.subject, subject);
    assert.match(mail?.text ?? '', /Device: unknown\./);
    assert.ok(!`${mail?.text}${mail?.html}`.includes('evil'));
  });

  test('neither browser, system nor address can be read in what is kept', async () => {
    const user = await register();
    await logInFrom(user, { userAgent: chrome, remoteAddress: '198.51.100.7' });
    const devices = await devicesOf(user);
    assert.equal(devices.length, 2);
    for (const device of devices) {
      assert.deepEqual(Object.keys(device).sort(), ['fingerprint', 'first_seen_at', 'last_seen_at', 'user_id']);
      assert.match(device.fingerprint, /^[A-Za-z0-9_-]{43}$/);
    }
  });

  test('a login moves the time at which its device was last seen, and of no other', async () => {
    const user = await register();
    const [registered] = await devicesOf(user);
    await logInFrom(user, { userAgent: chrome });
    system().clock.advanceSeconds(3600);
    await logInFrom(user);
    const seen = (await devicesOf(user)).sort((a, b) => a.last_seen_at - b.last_seen_at);
    assert.deepEqual(
      seen.map((device) => [device.first_seen_at, device.last_seen_at]),
      [
        [registered?.first_seen_at, registered?.last_seen_at],
        [registered?.first_seen_at, system().clock.now()],
      ],
    );
    assert.equal(seen[1]?.fingerprint, registered?.fingerprint);
  });

  test('50 devices are remembered; the one that was not used for longest is forgotten', async () => {
    const user = await register();
    for (let network = 1; network <= 49; network += 1) {
      system().clock.advanceSeconds(1);
      await logInFrom(user, { remoteAddress: `10.${network}.0.1` });
    }
    assert.equal((await devicesOf(user)).length, 50);
    system().clock.advanceSeconds(1);
    await logInFrom(user);
    assert.equal(await noticesTo(user), 49, 'the device of the registration is still known');

    system().clock.advanceSeconds(1);
    await logInFrom(user, { remoteAddress: '10.50.0.1' });
    assert.equal((await devicesOf(user)).length, 50);
    assert.equal(await noticesTo(user), 50);
    system().clock.advanceSeconds(1);
    await logInFrom(user, { remoteAddress: '10.2.0.1' });
    assert.equal(await noticesTo(user), 50);
    await logInFrom(user, { remoteAddress: '10.1.0.1' });
    assert.equal(await noticesTo(user), 51, 'this one had been forgotten');
  });

  test('five parallel first logins from a new device send one notice', async () => {
    const user = await register();
    const replies = await Promise.all(Array.from({ length: 5 }, () => attempt(user, { userAgent: chrome })));
    for (const reply of replies) assert.equal(reply.status, 200);
    assert.equal((await devicesOf(user)).length, 2);
    assert.equal(await noticesTo(user), 1);
  });

  test('a rotation of SECRET_KEY makes no known device a new one', async () => {
    const user = await registerUser(system());
    const { deps } = system();
    const context = { requestId: '', clientAddress: home, userAgent: chrome, signal: new AbortController().signal };
    const owner = { id: user.id, email: user.email, locale: null };
    await noticeDevice(deps, deps.db, owner, context);
    assert.equal(await noticesTo(user), 1);
    const secret = 'another secret of more than 32 bytes';
    const rotated = createKeyring([secret, ...deps.config.secretKeys]);
    await noticeDevice({ ...deps, keyring: rotated }, deps.db, owner, context);
    assert.equal(await noticesTo(user), 1);
    await noticeDevice({ ...deps, keyring: createKeyring([secret]) }, deps.db, owner, context);
    assert.equal(await noticesTo(user), 1, 'one login under both secrets moved it to the newer one');
    await noticeDevice({ ...deps, keyring: createKeyring([`${secret}, and yet another`]) }, deps.db, owner, context);
    assert.equal(await noticesTo(user), 2, 'without the secret that it was noted under it cannot be recognised');
  });
});
