import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { generateCode, normalizeCode } from './one-time-code.ts';

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const codeLength = 6;
const code = () => fc.string({ unit: fc.constantFrom(...alphabet), minLength: codeLength, maxLength: codeLength });

describe('making codes', () => {
  test('every code is six symbols of the alphabet without I, L, O and U', () => {
    for (let i = 0; i < 10_000; i += 1) assert.match(generateCode(), /^[0-9A-HJKMNP-TV-Z]{6}$/);
  });

  test('every symbol is equally likely at every place', () => {
    const samples = 64_000;
    const counts = Array.from({ length: codeLength }, () => new Map<string, number>());
    for (let i = 0; i < samples; i += 1) {
      for (const [place, symbol] of [...generateCode()].entries()) {
        const count = counts[place];
        count?.set(symbol, (count.get(symbol) ?? 0) + 1);
      }
    }
    const expected = samples / alphabet.length;
    for (const [place, count] of counts.entries()) {
      const chiSquare = [...alphabet].reduce(
        (sum, symbol) => sum + ((count.get(symbol) ?? 0) - expected) ** 2 / expected,
        0,
      );
      // 31 degrees of freedom: fair codes exceed 130 less than once in 10^12 runs; one missing symbol gives over 2,000.
      assert.ok(chiSquare < 130, `place ${place}: chi-square ${chiSquare}`);
      // Below 3 the counts would be evener than chance makes them, as a sequence would be.
      assert.ok(chiSquare > 3, `place ${place}: chi-square ${chiSquare}`);
    }
  });

  test('neighbouring symbols do not depend on each other', () => {
    const samples = 64_000;
    const pairs = new Map<string, number>();
    for (let i = 0; i < samples; i += 1) {
      const pair = generateCode().slice(0, 2);
      pairs.set(pair, (pairs.get(pair) ?? 0) + 1);
    }
    const cells = alphabet.length ** 2;
    const expected = samples / cells;
    const seen = [...pairs.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    const chiSquare = seen + (cells - pairs.size) * expected;
    // 1,023 degrees of freedom, standard deviation 45: eight of them either way.
    assert.ok(chiSquare > 660 && chiSquare < 1_390, `chi-square ${chiSquare}`);
  });

  test('codes hardly ever repeat', () => {
    const codes = new Set(Array.from({ length: 50_000 }, generateCode));
    // About one repetition is expected of 30 bits.
    assert.ok(codes.size > 49_970, `${codes.size} different codes`);
  });
});

describe('reading codes', () => {
  const accepted: [string, string][] = [
    ['ABC123', 'ABC123'],
    ['abc123', 'ABC123'],
    ['aBc 123', 'ABC123'],
    ['ABC-123', 'ABC123'],
    [' A-B C - 1 2 3\n', 'ABC123'],
    ['\u00a0ABC\u2009123\t', 'ABC123'],
    ['oOo00O', '000000'],
    ['iIlL11', '111111'],
    ['O-I-L-o-i-l', '011011'],
    ['zyxwvt', 'ZYXWVT'],
  ];
  for (const [typed, expected] of accepted) {
    test(`${JSON.stringify(typed)} is read as ${expected}`, () => assert.equal(normalizeCode(typed), expected));
  }

  const refused = [
    '',
    ' - ',
    'ABC12',
    'ABC1234',
    'ABCU23',
    'abcu23',
    'ABC12_',
    'ABC12.',
    'ABC12%',
    'ABC12\0',
    // Digits and letters of other scripts, which other parsers would map or count.
    'ABC12\u0663',
    'ABC12\uff13',
    '\uff21BC123',
    'АВС123',
    '\u0131BC123',
    '\u017fBC123',
    '\u212aBC123',
    'ABC12\u{1d7d1}',
    '\u{1f600}\u{1f600}\u{1f600}',
    'ABC\u200b123',
    'ABC\u2013123',
  ];
  for (const typed of refused) {
    test(`${JSON.stringify(typed)} cannot be a code`, () => assert.equal(normalizeCode(typed), undefined));
  }

  test('a generated code reads as itself', () => {
    for (let i = 0; i < 1000; i += 1) {
      const generated = generateCode();
      assert.equal(normalizeCode(generated), generated);
    }
  });

  test('what is read once reads the same again', () => {
    const typed = fc.oneof(
      fc.string({ unit: fc.constantFrom(...alphabet, ...'oOiIlLuU -'), maxLength: 12 }),
      fc.string({ unit: 'binary', maxLength: 12 }),
    );
    fc.assert(
      fc.property(typed, (input) => {
        const once = normalizeCode(input);
        if (once === undefined) return;
        assert.match(once, /^[0-9A-HJKMNP-TV-Z]{6}$/);
        assert.equal(normalizeCode(once), once);
      }),
    );
  });

  test('case, spaces, hyphens and look-alikes make no difference', () => {
    const lookAlikes: Record<string, string[]> = { 0: ['0', 'O', 'o'], 1: ['1', 'I', 'i', 'L', 'l'] };
    const separators = fc.string({ unit: fc.constantFrom(' ', '-', '\t', '\u00a0'), maxLength: 3 });
    const typing = fc.tuple(code(), fc.array(fc.tuple(fc.nat(4), separators), { minLength: 7, maxLength: 7 }));
    fc.assert(
      fc.property(typing, ([wanted, choices]) => {
        const typed = [...wanted].map((symbol, place) => {
          const [choice, separator] = choices[place] ?? [0, ''];
          const spellings = lookAlikes[symbol] ?? [symbol, symbol.toLowerCase()];
          return `${separator}${spellings[choice % spellings.length]}`;
        });
        assert.equal(normalizeCode(`${typed.join('')}${choices[6]?.[1]}`), wanted);
      }),
    );
  });

  test('a U in any place is refused', () => {
    fc.assert(
      fc.property(code(), fc.nat(codeLength - 1), fc.constantFrom('U', 'u'), (valid, place, letter) => {
        assert.equal(normalizeCode(valid.slice(0, place) + letter + valid.slice(place + 1)), undefined);
      }),
    );
  });
});
