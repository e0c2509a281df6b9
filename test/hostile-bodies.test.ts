import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type HostileCase, listOperations, type Refusal, refuseAll, withMember } from './hostile-operations.ts';
import { describeOnBackends } from './system.ts';

const bodyLimitBytes = 32 * 1024;
const maxDepth = 16;
const unknownField: Refusal = {
  code: 'validation_failed',
  errors: [{ path: '/unknown', message: 'is not a known field' }],
};
const malformedAt = (path: string, message: string): Refusal => ({
  code: 'malformed_json',
  errors: [{ path, message }],
});

describeOnBackends('hostile input, as a whole', {}, (system) => {
  test('a body that is JSON and no object is refused as a whole, null also where a body may be left out', async () => {
    const refusal: Refusal = { code: 'validation_failed', errors: [{ path: '', message: 'must be object' }] };
    await refuseAll(system(), ({ sample }) => [
      ...[null, [], [sample], 'text', '', 42, true, false].map((json) => ({ json, refusal })),
      { raw: ' null\n', refusal },
    ]);
  });

  test('a body of too few or too many members is refused as a whole', async () => {
    const counted = (await listOperations(system())).flatMap(
      ({ label, bodySchema: { minProperties, maxProperties } }) =>
        minProperties === undefined && maxProperties === undefined ? [] : [[label, minProperties, maxProperties]],
    );
    assert.deepEqual(counted, [['POST /auth/reauthenticate', 1, 1]]);
    await refuseAll(system(), ({ bodySchema: { minProperties, maxProperties }, fields, sample }) => {
      const all = Object.fromEntries(Object.keys(fields).map((name) => [name, sample[name] ?? 'text']));
      const refuse = (json: object, message: string): HostileCase => {
        return { json, refusal: { code: 'validation_failed', errors: [{ path: '', message }] } };
      };
      return [
        ...(minProperties === undefined ? [] : [refuse({}, `must have at least ${minProperties} field(s)`)]),
        ...(maxProperties === undefined ? [] : [refuse(all, `must have at most ${maxProperties} field(s)`)]),
      ];
    });
  });

  test('a member named twice is refused by its place, also where an escape hides it', async () => {
    const twiceAt = (path: string) => malformedAt(path, 'is named twice');
    await refuseAll(system(), ({ sample }) => {
      const [name = ''] = Object.keys(sample);
      const escaped = `\\u${name.charCodeAt(0).toString(16).padStart(4, '0')}${name.slice(1)}`;
      return [
        { raw: withMember(sample, `"${name}":${JSON.stringify(sample[name])}`), refusal: twiceAt(`/${name}`) },
        { raw: withMember(sample, `"${escaped}":null`), refusal: twiceAt(`/${name}`) },
        { raw: withMember(sample, '"unknown":{"a":[{"b":1,"b":2}]}'), refusal: twiceAt('/unknown/a/0/b') },
        { raw: withMember(sample, '"a/b":{"~":1,"\\u007e":2}'), refusal: twiceAt('/a~1b/~0') },
        { raw: '[{"":1,"":1}]', refusal: twiceAt('/0/') },
      ];
    });
  });

  test('a member that could reach a prototype is refused by its place at every depth', async () => {
    const members = {
      '"__proto__":{"polluted":true}': '/__proto__',
      '"\\u005f_proto__":{"polluted":true}': '/__proto__',
      '"constructor":{"prototype":{"polluted":true}}': '/constructor',
      '"prototype":null': '/prototype',
      '"unknown":[{"__proto__":null}]': '/unknown/0/__proto__',
    };
    const refusedAt = (path: string) => malformedAt(path, 'is not an allowed name');
    await refuseAll(system(), ({ fields, sample }) => [
      ...Object.entries(members).map(([member, path]) => ({
        raw: withMember(sample, member),
        refusal: refusedAt(path),
      })),
      ...Object.keys(fields).flatMap((name) => {
        const { [name]: _replaced, ...rest } = sample;
        const [direct, deep] = [`"${name}":{"__proto__":{"polluted":true}}`, `"${name}":{"a":[{"constructor":1}]}`];
        return [
          { raw: withMember(rest, direct), refusal: refusedAt(`/${name}/__proto__`) },
          { raw: withMember(rest, deep), refusal: refusedAt(`/${name}/a/0/constructor`) },
        ];
      }),
    ]);
    assert.equal(({} as Record<string, unknown>).polluted, undefined);
  });

  test('sixteen levels are read and a seventeenth is refused by its place, however many follow', async () => {
    // Far beyond the limit the parser gives up before there is a place to name.
    const exhausted: Refusal = { code: 'malformed_json', detail: 'The body is nested too deeply.' };
    await refuseAll(system(), ({ sample, extensible }) => {
      // The body itself is the first level.
      const lists = (levels: number) => `"unknown":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}`;
      const objects = (levels: number) => `${'{"a":'.repeat(levels)}1${'}'.repeat(levels)}`;
      const tooDeep = malformedAt(`/unknown${'/0'.repeat(maxDepth - 1)}`, 'is nested too deeply');
      const tooDeepObject = malformedAt('/a'.repeat(maxDepth), 'is nested too deeply');
      return [
        { raw: withMember(extensible, lists(maxDepth)), refusal: unknownField },
        { raw: withMember(sample, lists(maxDepth + 1)), refusal: tooDeep },
        { raw: withMember(sample, lists(500)), refusal: tooDeep },
        { raw: objects(maxDepth + 1), refusal: tooDeepObject },
        { raw: objects(500), refusal: tooDeepObject },
        { raw: withMember(sample, lists(15_000)), refusal: exhausted },
        { raw: objects(5_000), refusal: exhausted },
        { raw: '['.repeat(30_000), refusal: { code: 'malformed_json' } },
        { raw: withMember(sample, lists(30_000)), refusal: { code: 'content_too_large' } },
      ];
    });
  });

  test('a body that is as wide as a body can be is refused at once', async () => {
    const unstorable = Array.from({ length: 3_000 }, () => '"\\u0000"').join(',');
    const message = 'must not hold NUL or unpaired surrogates';
    const errors = Array.from({ length: 20 }, (_, index) => ({ path: `/unknown/${index}`, message }));
    await refuseAll(system(), ({ sample }) => [
      { raw: `[${'0,'.repeat(16_000)}0]`, refusal: { code: 'validation_failed', paths: [''] } },
      { raw: withMember(sample, `"unknown":[${unstorable}]`), refusal: { code: 'validation_failed', errors } },
      { raw: `${' '.repeat(30_000)}x`, refusal: { code: 'malformed_json' } },
      { raw: `"${'\\'.repeat(30_001)}"`, refusal: { code: 'malformed_json' } },
    ]);
  });

  test('bytes that are not UTF-8 are refused, and so are the other encodings of Unicode', async () => {
    const refusal: Refusal = { code: 'malformed_json', detail: 'The body is not valid UTF-8.' };
    const invalid = [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]];
    await refuseAll(system(), ({ sample }) => {
      const text = JSON.stringify(sample);
      const littleEndian = Buffer.from(text, 'utf16le');
      const bigEndian = Buffer.from(littleEndian).swap16();
      const insideFirstName = 2;
      return [
        ...invalid.map((bytes) => ({ raw: spliceBytes(text, insideFirstName, bytes), refusal })),
        { raw: Buffer.concat([Buffer.from([0xff, 0xfe]), littleEndian]), refusal },
        { raw: Buffer.concat([Buffer.from([0xfe, 0xff]), bigEndian]), refusal },
        { raw: littleEndian, refusal: { code: 'malformed_json' } },
        { raw: bigEndian, refusal: { code: 'malformed_json' } },
        { raw: `\ufeff${text}`, refusal: { code: 'malformed_json' } },
      ];
    });
  });

  test('what is not JSON to the letter is refused', async () => {
    const fragments = [' ', '\0', '{', '}', '{]', 'undefined', 'NaN', '-', '01', '"', "{'a':1}", '{a:1}', '[1,]'];
    const members = ['', '"a":+1', '"a":0x1', '"a":Infinity', '"a":"\n"', '"a":"\\x41"', '"a"', '/**/"a":1', '"a":1;'];
    await refuseAll(system(), ({ sample }) => {
      const text = JSON.stringify(sample);
      const broken = [text + text, `${text}x`, `${text}\0`, text.slice(0, -1), `//\n${text}`, `)]}'\n${text}`];
      const spoilt = [...members.map((member) => withMember(sample, member)), text.replace(/\}$/, ',}')];
      return [...fragments, ...broken, ...spoilt, text.replaceAll('"', "'")].map((raw) => ({
        raw,
        refusal: { code: 'malformed_json' },
      }));
    });
  });

  test('a body of 32 KiB is read and one byte more is refused', async () => {
    await refuseAll(system(), ({ extensible }) => {
      const padded = (bytes: number) => withMember(extensible, '"unknown":1').padEnd(bytes, ' ');
      return [
        { raw: padded(bodyLimitBytes), refusal: unknownField },
        { raw: padded(bodyLimitBytes + 1), refusal: { code: 'content_too_large' } },
        { raw: 'x'.repeat(1_000_000), refusal: { code: 'content_too_large' } },
      ];
    });
  });
});

function spliceBytes(text: string, at: number, bytes: readonly number[]): Buffer {
  return Buffer.concat([Buffer.from(text.slice(0, at)), Buffer.from(bytes), Buffer.from(text.slice(at))]);
}
