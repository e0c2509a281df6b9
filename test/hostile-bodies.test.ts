import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertProblem, call } from './client.ts';
import { listOperations, type Refusal, refuseAll } from './hostile-operations.ts';
import { describeOnBackends } from './system.ts';

const bodyLimitBytes = 32 * 1024;
const maxDepth = 16;

describeOnBackends('hostile input, as a whole', {}, (system) => {
  test('a body that is JSON and no object is refused as a whole', async () => {
    await refuseAll(system(), ({ bodyRequired, sample }) =>
      [...(bodyRequired ? [null] : []), [], [sample], 'text', '', 42, true, false].map((json) => ({
        json,
        refusal: { code: 'validation_failed', paths: [''] },
      })),
    );
  });

  test('a member named twice is refused, also where an escape hides it', async () => {
    const refusal: Refusal = { code: 'malformed_json', detail: 'The body names a member twice.' };
    await refuseAll(system(), ({ sample }) => {
      const [name = ''] = Object.keys(sample);
      const escaped = `\\u${name.charCodeAt(0).toString(16).padStart(4, '0')}${name.slice(1)}`;
      return [
        { raw: withMember(sample, `"${name}":${JSON.stringify(sample[name])}`), refusal },
        { raw: withMember(sample, `"${escaped}":null`), refusal },
        { raw: withMember(sample, '"unknown":{"a":[{"b":1,"b":2}]}'), refusal },
      ];
    });
  });

  test('a member that could reach a prototype is refused at every depth', async () => {
    const refusal: Refusal = { code: 'malformed_json', detail: 'The body has a member whose name is not allowed.' };
    const members = [
      '"__proto__":{"polluted":true}',
      '"\\u005f_proto__":{"polluted":true}',
      '"constructor":{"prototype":{"polluted":true}}',
      '"prototype":null',
      '"unknown":[{"__proto__":null}]',
    ];
    await refuseAll(system(), ({ fields, sample }) => [
      ...members.map((member) => ({ raw: withMember(sample, member), refusal })),
      ...Object.keys(fields).flatMap((name) => {
        const { [name]: _replaced, ...rest } = sample;
        return [
          { raw: withMember(rest, `"${name}":{"__proto__":{"polluted":true}}`), refusal },
          { raw: withMember(rest, `"${name}":{"a":[{"constructor":1}]}`), refusal },
        ];
      }),
    ]);
    assert.equal(({} as Record<string, unknown>).polluted, undefined);
  });

  test('sixteen levels are read and a seventeenth is refused, however many follow', async () => {
    const detail = 'The body is nested too deeply.';
    await refuseAll(system(), ({ sample }) => {
      // The body itself is the first level.
      const deep = (levels: number) =>
        withMember(sample, `"unknown":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}`);
      return [
        { raw: deep(maxDepth), refusal: { code: 'validation_failed', paths: ['/unknown'] } },
        { raw: deep(maxDepth + 1), refusal: { code: 'malformed_json', detail } },
        { raw: deep(15_000), refusal: { code: 'malformed_json', detail } },
        { raw: `${'{"a":'.repeat(5_000)}1${'}'.repeat(5_000)}`, refusal: { code: 'malformed_json', detail } },
        { raw: '['.repeat(30_000), refusal: { code: 'malformed_json' } },
        { raw: deep(30_000), refusal: { code: 'content_too_large' } },
      ];
    });
  });

  test('a body that is as wide as a body can be is refused at once', async () => {
    const unstorable = Array.from({ length: 3_000 }, () => '"\\u0000"').join(',');
    const paths = Array.from({ length: 20 }, (_, index) => `/unknown/${index}`);
    await refuseAll(system(), ({ sample }) => [
      { raw: `[${'0,'.repeat(16_000)}0]`, refusal: { code: 'validation_failed', paths: [''] } },
      { raw: withMember(sample, `"unknown":[${unstorable}]`), refusal: { code: 'validation_failed', paths } },
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
    const fragments = ['', ' ', '\0', '{', '}', '{]', 'undefined', 'NaN', '-', '01', '"', "{'a':1}", '{a:1}', '[1,]'];
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

  test('a body of any other content type, or of none, is refused', async () => {
    const others = ['text/plain', 'text/json', 'application/x-www-form-urlencoded', 'application/xml', '*/*', ''];
    const multipart = 'multipart/form-data; boundary=x';
    const nearly = ['application/json-patch+json', 'application/problem+json', 'application/jsonp', 'json'];
    const broken = ['application/json, text/plain', 'application/ json', 'application/json/x', 'x'.repeat(4_000)];
    await refuseAll(system(), ({ sample }) =>
      [...others, multipart, ...nearly, ...broken, undefined].map((contentType) => ({
        raw: JSON.stringify(sample),
        headers: contentType === undefined ? {} : { 'content-type': contentType },
        refusal: { code: 'unsupported_media_type' },
      })),
    );
  });

  test('the content type is read without regard to case and parameters', async () => {
    for (const { request, sample } of await listOperations(system())) {
      for (const contentType of [
        'APPLICATION/JSON',
        'application/json; charset=utf-8',
        'application/json;charset=UTF-8',
      ]) {
        const rawBody = withMember(sample, '"unknown":1');
        const reply = await call(system(), { ...request, rawBody, headers: { 'content-type': contentType } });
        assertProblem(reply, 'validation_failed', { errors: [{ path: '/unknown', message: 'is not a known field' }] });
      }
    }
  });

  test('no body and no content type is refused where a body is required', async () => {
    await refuseAll(system(), ({ bodyRequired }) =>
      bodyRequired ? [{ headers: {}, refusal: { code: 'unsupported_media_type' } }] : [],
    );
  });

  test('a body of 32 KiB is read and one byte more is refused', async () => {
    await refuseAll(system(), ({ sample }) => {
      const padded = (bytes: number) => withMember(sample, '"unknown":1').padEnd(bytes, ' ');
      return [
        { raw: padded(bodyLimitBytes), refusal: { code: 'validation_failed', paths: ['/unknown'] } },
        { raw: padded(bodyLimitBytes + 1), refusal: { code: 'content_too_large' } },
        { raw: 'x'.repeat(1_000_000), refusal: { code: 'content_too_large' } },
      ];
    });
  });
});

/** The JSON text of an object with one more member, as text, in front of the others. */
function withMember(sample: Record<string, unknown>, member: string): string {
  const text = JSON.stringify(sample);
  return text === '{}' ? `{${member}}` : text.replace('{', () => `{${member},`);
}

function spliceBytes(text: string, at: number, bytes: readonly number[]): Buffer {
  return Buffer.concat([Buffer.from(text.slice(0, at)), Buffer.from(bytes), Buffer.from(text.slice(at))]);
}
