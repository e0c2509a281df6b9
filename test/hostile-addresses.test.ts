import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { budgetSpent, goodPassword, logIn, newestMail, registerUser, sendCode, subjectsOfMails } from './accounts.ts';
import { assertProblem } from './client.ts';
import { listOperations, refuseAll } from './hostile-operations.ts';
import { describeOnBackends } from './system.ts';

const longLabel = 'd'.repeat(63);

// Each could reach somebody else, or nobody, or a header, if any parser on the way read it differently.
const malformedAddresses: Record<string, readonly string[]> = {
  'without one of its parts': ['ada', '@example.com', 'ada@', '@', 'ada@@example.com', 'example.com', '   ', '@@@'],
  'with several addresses': [
    'a@example.com,b@example.com',
    'a@example.com;b@example.com',
    'a@example.com b@example.com',
  ],
  'with two at signs': ['a@b@example.com', 'a@evil.example@example.com', '"a@b"@example.com'],
  'quoted, commented or named': [
    '"ada"@example.com',
    '"ada lovelace"@example.com',
    '""@example.com',
    'ada(comment)@example.com',
    'ada@(comment)example.com',
    'Ada <ada@example.com>',
    '<ada@example.com>',
    'mailto:ada@example.com',
    'ada\\@example.com',
    'ada:b@example.com',
    '[ada]@example.com',
  ],
  'with space or control characters': [
    ' ada@example.com',
    'ada@example.com ',
    'ada @example.com',
    'ada@ example.com',
    'ada@example.com\n',
    'ada@example.com\r\nBcc: eve@example.com',
    'ada\r\n@example.com',
    'ada\t@example.com',
    'ada@exam\u007fple.com',
    'ada\u00a0@example.com',
    'ada@example.com\u2028',
  ],
  'with misplaced dots': ['.ada@example.com', 'ada.@example.com', 'a..da@example.com', 'ada@.example.com'],
  'with a malformed domain': [
    'ada@example..com',
    'ada@example.com.',
    'ada@example',
    'ada@localhost',
    'ada@-example.com',
    'ada@example-.com',
    'ada@ex_ample.com',
    'ada@example.c',
    'ada@example.123',
    'ada@exam%70le.com',
    'ada@example.com:25',
    'ada@example.com/x',
    'ada@example.com?x',
    'ada@example.com#x',
    'ada@*.example.com',
    'ada@xn--.example',
    'a@xn--a.example',
    'a@XN--A.example',
    'a@xn--fi.com',
    'a@example.xn--a',
    'a@mail.xn--fi.example.com',
  ],
  'with a number for a host': ['ada@127.0.0.1', 'ada@[127.0.0.1]', 'ada@[IPv6:::1]', 'ada@0x7f.1', 'ada@2130706433'],
  'with what only looks like ASCII': [
    'ádá@example.com',
    'аda@example.com',
    '\uff41da@example.com',
    'a\u0131da@example.com',
    '\u212aate@example.com',
    'a\u200bda@example.com',
    'ada\u202e@example.com',
    'ada\uff20example.com',
    'ada@\uff45xample.com',
    'ada@example\u3002com',
    'ada@example\uff0ecom',
    'ada@\u212aelvin.example',
    'ada@exa\u00admple.com',
    'ada@exam\u200dple.com',
    'ada@\ufb01sh.example',
    'ada@e\u0301xample.com',
    'ada@BÜCHER.example',
    'ada@\u0130stanbul.example',
    'ada@1\u05d0.example',
  ],
  'beyond its limits': [
    `${'a'.repeat(65)}@example.com`,
    `ada@d${longLabel}.com`,
    `ada@${`${longLabel}.`.repeat(4)}com`,
    `${'a'.repeat(64)}@${longLabel}.${longLabel}.${'d'.repeat(58)}.com`,
    `ada@${'bücher.'.repeat(30)}example`,
    `${'a'.repeat(30_000)}@example.com`,
    `ada@${'a-'.repeat(120)}`,
  ],
};

describeOnBackends('addresses', {}, (system) => {
  for (const [fault, addresses] of Object.entries(malformedAddresses)) {
    test(`an address ${fault} is refused by every operation that takes one`, async () => {
      await refuseAll(system(), ({ fields, sample }) =>
        'email' in fields
          ? addresses.map((email) => ({
              json: { ...sample, email },
              refusal: { code: 'validation_failed', paths: ['/email'] },
            }))
          : [],
      );
    });
  }

  test('the four operations that take an address are among them', async () => {
    const withAddress = (await listOperations(system())).filter(({ fields }) => 'email' in fields);
    const paths = new Set(withAddress.map(({ request }) => request.path));
    for (const path of ['/auth/send-code', '/auth/verify-code', '/auth/login', '/users/me/email']) {
      assert.ok(paths.has(path), path);
    }
  });

  test('an accepted address is mailed under one canonical spelling, and dots and plus signs are kept', async () => {
    const tag = randomBytes(4).toString('hex');
    const canonicalSpellings: Record<string, string> = {
      [`ada-${tag}@example.com`]: `ada-${tag}@example.com`,
      [`ADA.Lovelace-${tag}@EXAMPLE.Com`]: `ada.lovelace-${tag}@example.com`,
      [`a.d.a.${tag}+News@example.com`]: `a.d.a.${tag}+news@example.com`,
      [`!#$%&'*+/=?^_\`{|}~-${tag}@example.com`]: `!#$%&'*+/=?^_\`{|}~-${tag}@example.com`,
      [`${tag}@bücher.example`]: `${tag}@xn--bcher-kva.example`,
      [`${tag}-2@XN--BCHER-KVA.Example`]: `${tag}-2@xn--bcher-kva.example`,
      [`${tag}@straße.example`]: `${tag}@xn--strae-oqa.example`,
      [`${tag}@例え.テスト`]: `${tag}@xn--r8jz45g.xn--zckzah`,
      [`${tag}@\u0430pple.example`]: `${tag}@xn--pple-43d.example`,
      [`${tag}@a-b.c-d.museum`]: `${tag}@a-b.c-d.museum`,
      [`${tag}@1.example`]: `${tag}@1.example`,
      [`${tag.padEnd(64, 'a')}@${longLabel}.${longLabel}.${'d'.repeat(57)}.com`]: `${tag.padEnd(64, 'a')}@${longLabel}.${longLabel}.${'d'.repeat(57)}.com`,
    };
    for (const [typed, canonical] of Object.entries(canonicalSpellings)) {
      assert.equal((await sendCode(system(), typed, 'registration')).status, 202, typed);
      const mail = await newestMail(system(), canonical);
      assert.match(mail?.subject ?? '', /is your code/, `${typed} was not mailed as ${canonical}`);
    }
  });

  test('every spelling of an address is the same address for its budget, its code and its account', async () => {
    const local = `grace-${randomBytes(4).toString('hex')}`;
    const domain = 'xn--bcher-kva.example';
    assert.equal((await sendCode(system(), `${local}@bücher.example`, 'registration')).status, 202);
    const again = await sendCode(system(), `${local.toUpperCase()}@${domain}`, 'registration');
    assertProblem(again, 'too_many_requests', budgetSpent);

    system().clock.advanceSeconds(61);
    const user = await registerUser(system(), { email: `${local}@${domain}` });
    for (const spelling of [`${local}@bücher.example`, `${local}@${domain}`.toUpperCase()]) {
      const reply = await logIn(system(), spelling, goodPassword);
      assert.equal(reply.status, 200, spelling);
      assert.equal(reply.body.user.email, user.email);
      assert.equal(reply.body.user.id, user.id);
    }
  });

  test('dots, plus signs and look-alike letters make another address, never another way to the same account', async () => {
    const tag = randomBytes(4).toString('hex');
    const user = await registerUser(system(), { email: `ada.${tag}@apple.example` });
    const mails = await subjectsOfMails(system(), user.email);
    for (const other of [`ada${tag}@apple.example`, `ada.${tag}+x@apple.example`, `ada.${tag}@\u0430pple.example`]) {
      assertProblem(await logIn(system(), other, user.password), 'invalid_credentials');
      assert.equal((await sendCode(system(), other, 'login')).status, 202);
    }
    assert.deepEqual(await subjectsOfMails(system(), user.email), mails);
  });
});
