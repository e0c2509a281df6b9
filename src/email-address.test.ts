import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { canonicalEmailAddress, emailMaxLength } from './email-address.ts';

const label = (length: number) => 'a'.repeat(length);

describe('the canonical spelling of an e-mail address', () => {
  const accepted: [input: string, canonical: string, why: string][] = [
    ['ada@example.com', 'ada@example.com', 'a plain address stays'],
    ['Ada.Lovelace@EXAMPLE.Com', 'ada.lovelace@example.com', 'ASCII letters are lowered'],
    ['a.d.a+login@example.com', 'a.d.a+login@example.com', 'dots and plus signs mean what the owner says'],
    ["!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~@example.com", 'every character of an atom'],
    ['INFO@example.com', 'info@example.com', 'I becomes i, also where the locale is Turkish'],
    ['ada@bücher.example', 'ada@xn--bcher-kva.example', 'a domain is stored in A-labels'],
    ['ada@xn--bcher-kva.example', 'ada@xn--bcher-kva.example', 'A-labels stay'],
    ['ada@XN--BCHER-KVA.example', 'ada@xn--bcher-kva.example', 'A-labels are lowered'],
    ['ada@a-b.c--d.example', 'ada@a-b.c--d.example', 'hyphens inside a label'],
    [`${label(64)}@example.com`, `${label(64)}@example.com`, 'a local part of 64'],
    [`a@${label(63)}.com`, `a@${label(63)}.com`, 'a label of 63'],
  ];
  for (const [input, canonical, why] of accepted) {
    test(`accepts ${printable(input)}: ${why}`, () => assert.equal(canonicalEmailAddress(input), canonical));
  }

  const refused: [input: string, why: string][] = [
    ['', 'nothing'],
    ['ada', 'no domain'],
    ['@example.com', 'no local part'],
    ['ada@', 'an empty domain'],
    ['ada@localhost', 'a domain of one label'],
    ['ada@@example.com', 'two at signs'],
    ['ada@evil.example@example.com', 'an address inside the local part'],
    ['.ada@example.com', 'a leading dot'],
    ['ada.@example.com', 'a trailing dot'],
    ['a..da@example.com', 'two dots in a row'],
    ['"ada"@example.com', 'a quoted local part'],
    ['ada(comment)@example.com', 'a comment'],
    ['Ada <ada@example.com>', 'a display name'],
    ['ada@example.com,eve@example.com', 'a list'],
    [' ada@example.com', 'a leading blank'],
    ['ada@example.com ', 'a trailing blank'],
    ['ada@example.com\n', 'a trailing line end'],
    ['ada\r\nBcc: eve@example.com', 'a header'],
    ['ada\0@example.com', 'a zero byte'],
    ['ädа@example.com', 'a local part outside ASCII'],
    ['\u212a@example.com', 'the Kelvin sign, which lowers to k'],
    ['ada@\u212aelvin.example', 'the Kelvin sign in the domain'],
    ['ada@ｅｘａｍｐｌｅ.com', 'full-width letters, which IDNA maps to ASCII'],
    ['ada@exam\u00adple.com', 'a soft hyphen, which IDNA drops'],
    ['ada@example\u3002com', 'an ideographic full stop, which IDNA maps to a dot'],
    ['ada@BÜCHER.example', 'an upper-case letter outside ASCII, whose lowering is not ours to decide'],
    ['ada@example%2ecom', 'a percent-encoded dot'],
    ['ada@[127.0.0.1]', 'an address literal'],
    ['ada@127.0.0.1', 'an IPv4 address'],
    ['ada@0x7f.1', 'a number that URL parsers read as an address'],
    ['ada@-example.com', 'a label that begins with a hyphen'],
    ['ada@example-.com', 'a label that ends with a hyphen'],
    ['ada@exam_ple.com', 'an underscore in the domain'],
    ['ada@example..com', 'an empty label'],
    ['ada@.example.com', 'a leading dot in the domain'],
    ['ada@example.com.', 'a trailing dot in the domain'],
    ['ada@example.c', 'a top-level domain of one letter'],
    ['ada@example.123', 'a numeric top-level domain'],
    [`${label(65)}@example.com`, 'a local part of 65'],
    [`a@${label(64)}.com`, 'a label of 64'],
    [`${label(64)}@${Array.from({ length: 4 }, () => label(60)).join('.')}.com`, 'more than 254 characters'],
  ];
  for (const [input, why] of refused) {
    test(`refuses ${printable(input)}: ${why}`, () => assert.equal(canonicalEmailAddress(input), undefined));
  }

  test('allows 254 characters and not one more, counted in the spelling that is stored', () => {
    const domain = `${label(61)}.${label(61)}.${label(61)}.com`;
    const longest = `${label(emailMaxLength - 1 - domain.length)}@${domain}`;
    assert.equal(longest.length, 254);
    assert.equal(canonicalEmailAddress(longest), longest);
    assert.equal(canonicalEmailAddress(`a${longest}`), undefined);
    const growsInAscii = `${label(64)}@${Array.from({ length: 20 }, () => 'büch').join('.')}.example`;
    assert.ok(growsInAscii.length < 254);
    assert.equal(canonicalEmailAddress(growsInAscii), undefined);
  });

  const asciiWord = fc.stringMatching(/^[A-Za-z0-9._+-]{1,20}$/);
  const domainWord = fc.oneof(fc.stringMatching(/^[A-Za-z0-9-]{1,12}$/), fc.string({ unit: 'grapheme', maxLength: 8 }));
  const nearAddress = fc
    .tuple(
      fc.oneof(asciiWord, fc.string({ unit: 'binary' })),
      domainWord,
      fc.constantFrom('com', 'COM', 'example', 'рф'),
    )
    .map(([localPart, domain, top]) => `${localPart}@${domain}.${top}`);
  const anything = fc.oneof(nearAddress, fc.emailAddress(), fc.string({ unit: 'binary' }));

  test('is the same when it is made again', () => {
    fc.assert(
      fc.property(anything, (input) => {
        const canonical = canonicalEmailAddress(input);
        fc.pre(canonical !== undefined);
        assert.equal(canonicalEmailAddress(canonical), canonical);
      }),
      { numRuns: 500 },
    );
  });

  test('holds one at sign and only lower-case printable ASCII, in at most 254 characters', () => {
    fc.assert(
      fc.property(anything, (input) => {
        const canonical = canonicalEmailAddress(input);
        if (canonical === undefined) return;
        assert.match(canonical, /^[!-?[-~]{1,64}@[a-z0-9.-]+$/);
        assert.doesNotMatch(canonical, /[A-Z\s"(),:;<>[\\\]]/);
        assert.ok(canonical.length <= emailMaxLength);
      }),
      { numRuns: 2_000 },
    );
  });

  test('is one for every mix of upper and lower case', () => {
    fc.assert(
      fc.property(fc.emailAddress(), fc.array(fc.boolean(), { minLength: 254, maxLength: 254 }), (address, isUpper) => {
        const letters = [...address].map((letter, index) =>
          isUpper[index] ? letter.toUpperCase() : letter.toLowerCase(),
        );
        assert.equal(canonicalEmailAddress(letters.join('')), canonicalEmailAddress(address));
      }),
    );
  });

  test('never throws, and never takes long, whatever it is given', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 1_000 }), (input) => void canonicalEmailAddress(input)),
    );
    const startedAtMs = performance.now();
    for (const piece of ['a', '.', 'a.', '-', '@', 'é', '\u{1f600}']) canonicalEmailAddress(piece.repeat(100_000));
    for (const piece of ['a.', 'a-', 'é.']) canonicalEmailAddress(`${'a.'.repeat(60)}a@${piece.repeat(60)}`);
    assert.ok(performance.now() - startedAtMs < 200);
  });
});

function printable(input: string): string {
  const escaped = JSON.stringify(input).replace(/[^ -~]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16)}`);
  return escaped.length > 60 ? `${escaped.slice(0, 60)}…` : escaped;
}
