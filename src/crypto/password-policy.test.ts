import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { findPasswordFault, passwordMaxLength } from './password-policy.ts';

const email = 'ada@example.com';
const tooShort = 'must be at least 8 characters long';
const tooLong = 'must be at most 256 characters long';
const common = 'is one of the most common passwords';
const builtFromAddress = 'must not be built from your e-mail address';

// 256 characters that are neither common nor built from anything.
const longest = 'quiet lantern over the harbour, '.repeat(8);

describe('the length of a password', () => {
  const cases: [string, string, string | undefined][] = [
    ['nothing', '', tooShort],
    ['seven characters', 'qx7vbn2', tooShort],
    ['eight characters', 'qx7vbn2m', undefined],
    ['256 characters', longest, undefined],
    ['257 characters', `${longest}!`, tooLong],
    // 14 and 16 UTF-16 units: characters are counted, not what stores them.
    ['seven emoji', '\u{1f600}\u{1f601}\u{1f602}\u{1f603}\u{1f604}\u{1f605}\u{1f606}', tooShort],
    ['eight emoji', '\u{1f600}\u{1f601}\u{1f602}\u{1f603}\u{1f604}\u{1f605}\u{1f606}\u{1f607}', undefined],
    ['256 emoji', '\u{1f600}\u{1f601}'.repeat(128), undefined],
    ['257 emoji', `${'\u{1f600}\u{1f601}'.repeat(128)}\u{1f602}`, tooLong],
    // NFKC joins a letter with its accent, so eight typed code points are seven characters.
    ['seven characters of which one is decomposed', 'qx7vbne\u0301', tooShort],
    ['eight characters of which one is decomposed', 'qx7vbn2e\u0301', undefined],
    ['256 decomposed characters', 'e\u0301a\u0308'.repeat(128), undefined],
    ['a ligature that NFKC takes apart beyond the limit', `${longest.slice(0, 255)}\ufb01`, tooLong],
    ['spaces and other scripts', 'пароль от почты', undefined],
  ];
  for (const [what, password, fault] of cases) {
    test(`${what}: ${fault ?? 'accepted'}`, () => assert.equal(findPasswordFault(password, email, 8), fault));
  }

  test('the configured minimum is the one that counts and is named', () => {
    assert.equal(findPasswordFault('quiet lantern', email, 15), 'must be at least 15 characters long');
    assert.equal(findPasswordFault('quiet lantern 1', email, 15), undefined);
  });

  test('the limit is 256', () => assert.equal(passwordMaxLength, 256));
});

describe('common passwords', () => {
  const spellings = [
    'password',
    'PASSWORD',
    'PassWord',
    'password1',
    'Password123',
    'qwertyuiop',
    'QWERTYUIOP',
    '12345678',
  ];
  const wide = 'ｐａｓｓｗｏｒｄ';
  for (const password of [...spellings, wide, 'aaaaaaaa', '........', '\u{1f600}'.repeat(8), 'A'.repeat(256)]) {
    test(`${password.slice(0, 20)} is refused in any case and width`, () => {
      assert.equal(findPasswordFault(password, email, 8), common);
    });
  }

  test('a passphrase that has a common password within it is accepted', () => {
    for (const password of ['my password is not this', 'qwertyuiop and a half', 'dragon boat sunday', 'aaaaaaab']) {
      assert.equal(findPasswordFault(password, email, 8), undefined, password);
    }
  });
});

describe('passwords built from the address', () => {
  const refused: [string, string][] = [
    [email, 'ada@example.com'],
    [email, 'ADA@EXAMPLE.COM'],
    [email, 'ada@example.com!'],
    [email, 'ada.example2026'],
    [email, 'Ada.Example.2026!'],
    [email, 'example-ada'],
    [email, 'exampleexample'],
    [email, 'adaadaada'],
    [email, '1234example'],
    [email, 'ａｄａｅｘａｍｐｌｅ'],
    [email, 'example!xyz'],
    ['ada.lovelace@example.com', 'AdaLovelace1815'],
    ['ada.lovelace@example.com', 'lovelace.ada'],
    ['ada.lovelace@example.com', 'Lovelace1!'],
    ['ada+list@mail.example.co.uk', 'ada-list-mail'],
    ["o'brien@example.com", "O'Brien2026"],
    ['al@example.com', 'al.example.17'],
    ['1815@example.com', '1815-1815-1815'],
  ];
  for (const [address, password] of refused) {
    test(`${password} is refused for ${address}`, () => {
      assert.equal(findPasswordFault(password, address, 8), builtFromAddress);
    });
  }

  const accepted: [string, string][] = [
    [email, 'Ada loves long walks'],
    [email, 'a fine example of a passphrase'],
    [email, 'adaptable canadian radar'],
    [email, 'commonwealth9'],
    [email, 'example!wxyz'],
    [email, 'correct horse battery staple'],
    ['al@example.com', 'signal altar also'],
    // Two letters are in half of all words and must not count.
    ['qx@example.com', 'qx7482bn'],
    ['correct@horse.com', 'correct horse battery staple'],
    ['a.b.c@example.com', 'abcabcxy'],
    ['ada.lovelace@example.com', 'adamant lover of lace'],
    ['ada@xn--e1afmkfd.xn--p1ai', 'мой пример фразы'],
  ];
  for (const [address, password] of accepted) {
    test(`${password} is accepted for ${address}`, () => {
      assert.equal(findPasswordFault(password, address, 8), undefined);
    });
  }
});
