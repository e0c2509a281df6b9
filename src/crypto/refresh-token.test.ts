import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { newId } from './ids.ts';
import { isGenuineRefreshToken, makeRefreshToken, parseRefreshToken, refreshTokenMaxLength } from './refresh-token.ts';
import { createKeyring, type Keyring, randomToken } from './secrets.ts';

const maxGeneration = 9_999_999_999;

function newSecret(): string {
  return randomBytes(48).toString('base64');
}

function isGenuine(keyring: Keyring, token: string, salt: string): boolean {
  const parsed = parseRefreshToken(token);
  return parsed !== undefined && isGenuineRefreshToken(keyring, parsed, salt);
}

describe('refresh tokens', () => {
  const keyring = createKeyring([newSecret()]);

  test('a token made for a generation is read back and is genuine', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: maxGeneration }), (generation) => {
        const [sessionId, salt] = [newId(), randomToken()];
        const token = makeRefreshToken(keyring, sessionId, generation, salt);
        const parsed = parseRefreshToken(token);
        assert.equal(parsed?.sessionId, sessionId);
        assert.equal(parsed.generation, generation);
        assert.ok(isGenuineRefreshToken(keyring, parsed, salt));
        assert.ok(token.length <= refreshTokenMaxLength);
      }),
    );
  });

  test('the same inputs give the same token, so that a lost reply can be repeated', () => {
    const [sessionId, salt] = [newId(), randomToken()];
    assert.equal(makeRefreshToken(keyring, sessionId, 7, salt), makeRefreshToken(keyring, sessionId, 7, salt));
  });

  test('a token with any character replaced, removed or doubled is not genuine', () => {
    const [sessionId, salt] = [newId(), randomToken()];
    const token = makeRefreshToken(keyring, sessionId, 1234, salt);
    const replacements = [
      ...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.+/= \0\n\u0661\u{1f600}',
    ];
    for (let place = 0; place < token.length; place += 1) {
      const [head, symbol, tail] = [token.slice(0, place), token.charAt(place), token.slice(place + 1)];
      for (const replacement of replacements.filter((candidate) => candidate !== symbol)) {
        assert.ok(!isGenuine(keyring, head + replacement + tail, salt), `${replacement} at ${place}`);
      }
      assert.ok(!isGenuine(keyring, head + tail, salt), `without ${place}`);
      assert.ok(!isGenuine(keyring, head + symbol + symbol + tail, salt), `${place} doubled`);
    }
    assert.ok(isGenuine(keyring, token, salt));
  });

  test('a MAC is worth nothing for another session, generation, salt or secret', () => {
    const [sessionId, salt] = [newId(), randomToken()];
    const parsed = parseRefreshToken(makeRefreshToken(keyring, sessionId, 1, salt));
    assert.ok(parsed);
    assert.ok(!isGenuineRefreshToken(keyring, { ...parsed, sessionId: newId() }, salt));
    for (const generation of [0, 2, 10, 11])
      assert.ok(!isGenuineRefreshToken(keyring, { ...parsed, generation }, salt));
    assert.ok(!isGenuineRefreshToken(keyring, parsed, randomToken()));
    assert.ok(!isGenuineRefreshToken(createKeyring([newSecret()]), parsed, salt));
    for (const mac of ['', '\0', parsed.mac.slice(1), `${parsed.mac}A`, 'A'.repeat(43), 'é'.repeat(43)]) {
      assert.ok(!isGenuineRefreshToken(keyring, { ...parsed, mac }, salt));
    }
  });

  test('the key of another purpose makes no refresh token', () => {
    const [sessionId, salt] = [newId(), randomToken()];
    const sealKey = keyring.current.key('seal');
    const confused: Keyring['current'] = { ...keyring.current, key: () => sealKey };
    const token = makeRefreshToken({ current: confused, all: [confused] }, sessionId, 1, salt);
    assert.ok(!isGenuine(keyring, token, salt));
  });

  test('a token made under an older secret stays genuine while that secret is configured', () => {
    const [older, newer] = [newSecret(), newSecret()];
    const [sessionId, salt] = [newId(), randomToken()];
    const token = makeRefreshToken(createKeyring([older]), sessionId, 3, salt);
    const rotated = createKeyring([newer, older]);
    assert.ok(isGenuine(rotated, token, salt));
    assert.ok(!isGenuine(createKeyring([newer]), token, salt));
    const successor = makeRefreshToken(rotated, sessionId, 4, salt);
    assert.ok(isGenuine(createKeyring([newer]), successor, salt));
    assert.ok(!isGenuine(createKeyring([older]), successor, salt));
  });
});

describe('the grammar of refresh tokens', () => {
  const id = newId();
  const mac = 'A'.repeat(43);
  const versionFourId = `${id.slice(0, 14)}4${id.slice(15)}`;

  test('the shortest and the longest token are read', () => {
    assert.deepEqual(parseRefreshToken(`v1.${id}.0.${mac}`), { sessionId: id, generation: 0, mac });
    const longest = `v1.${id}.${maxGeneration}.${mac}`;
    assert.deepEqual(parseRefreshToken(longest), { sessionId: id, generation: maxGeneration, mac });
    assert.ok(longest.length <= refreshTokenMaxLength);
  });

  const generations = '00 01 007 +1 -1 -0 1.0 1e3 0x1 1_0 10000000000 1n NaN Infinity'.split(' ');
  const refused: Record<string, string[]> = {
    'a generation that is not a plain decimal number': [
      ...generations.map((generation) => `v1.${id}.${generation}.${mac}`),
      ...['', ' 1', '1 ', '\u0661', '\uff11', '\u0967', '1\u0301', '\u00b9'].map((value) => `v1.${id}.${value}.${mac}`),
    ],
    'white space or a line end around it': [' ', '\n', '\r\n', '\t', '\u00a0', '\ufeff', '\0'].flatMap((space) => [
      `${space}v1.${id}.1.${mac}`,
      `v1.${id}.1.${mac}${space}`,
      `v1.${id}${space}.1.${mac}`,
    ]),
    'another version': ['v2', 'V1', 'v01', 'v', '1', '', 'v1.v1'].map((version) => `${version}.${id}.1.${mac}`),
    'what is not one of our identifiers': [
      ...[
        id.toUpperCase(),
        `{${id}}`,
        id.replaceAll('-', ''),
        id.slice(1),
        `${id}0`,
        '',
        versionFourId,
        '../../etc/passwd',
      ],
      "' OR 1=1 --",
    ].map((sessionId) => `v1.${sessionId}.1.${mac}`),
    'a MAC of another length or alphabet': [
      ...[
        '',
        'A'.repeat(42),
        'A'.repeat(44),
        `${'A'.repeat(42)}=`,
        `${mac}=`,
        `${'A'.repeat(42)}+`,
        `${'A'.repeat(42)}/`,
      ],
      `${'A'.repeat(42)}é`,
    ].map((value) => `v1.${id}.1.${value}`),
    'more, fewer or other parts': [
      ...['', '.', '...', `v1.${id}.${mac}`, `v1.${id}.1.${mac}.`, `.v1.${id}.1.${mac}`, `v1.${id}.1.${mac}.${mac}`],
      ...[`v1.${id}.1.${mac}\nv1.${id}.1.${mac}`, `v1-${id}-1-${mac}`, 'x'.repeat(100_000)],
    ],
  };
  for (const [what, tokens] of Object.entries(refused)) {
    test(`${what} is refused before any read`, () => {
      for (const token of tokens)
        assert.equal(parseRefreshToken(token), undefined, JSON.stringify(token.slice(0, 120)));
    });
  }

  test('no text is read as a token that would be written otherwise', () => {
    const almost = fc.tuple(
      fc.constantFrom('v1', 'v2', ''),
      fc.constantFrom(id, id.toUpperCase()),
      fc.string(),
      fc.constantFrom(mac, ''),
    );
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          almost.map((parts) => parts.join('.')),
        ),
        (token) => {
          const parsed = parseRefreshToken(token);
          if (parsed !== undefined) assert.equal(`v1.${parsed.sessionId}.${parsed.generation}.${parsed.mac}`, token);
        },
      ),
    );
  });
});
