import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FieldError } from '../src/errors.ts';
import { assertProblem, type Call, call } from './client.ts';
import { listParameters, type Parameter, type Refusal, refuseRequests, type Schema } from './hostile-operations.ts';
import { describeOnBackends, type System } from './system.ts';

// maxParamLength of the router: what is longer is refused before any route is looked for.
const pathParameterMaxLength = 128;

const knownParameters = [
  'GET /users/me/sessions, limit',
  'GET /users/me/sessions, cursor',
  'DELETE /users/me/sessions/{id}, id',
  'GET /users, email',
  'GET /users, status',
  'GET /users, role',
  'PATCH /users/{id}, id',
  'PUT /roles/{name}, name',
  'GET /audit-events, type',
  'GET /audit-events, since',
];

describeOnBackends('hostile parameters of the path and the query', {}, (system) => {
  test('the parameters of the document are the ones tested, and every one has a limit', async () => {
    const parameters = await listParameters(system());
    const labels = new Set(parameters.map(({ label }) => label));
    for (const label of knownParameters) assert.ok(labels.has(label), `the OpenAPI document has lost ${label}`);
    for (const { label, schema } of parameters) {
      const { type, minimum, maximum, maxLength, enum: values, format } = schema;
      const isBounded =
        type === 'integer'
          ? minimum !== undefined && maximum !== undefined
          : maxLength !== undefined || values !== undefined || format !== undefined;
      assert.ok(isBounded, `${label} has no limit`);
    }
  });

  test('a number of another form is refused by the bare name of its parameter', async () => {
    const noIntegers = ['x', '', '1.5', '-1.5', '1,2', '1;2', 'true', 'null', 'undefined', 'NaN', '٣', '1_0', '1n'];
    const notDecimal = [
      '1e999',
      'Infinity',
      '-1e999',
      '1e2',
      '1e300',
      '0x10',
      ' 10',
      '+1',
      '9'.repeat(16),
      '9'.repeat(100),
    ];
    const notDecoded = ['%zz', '%ff', '%00', '1%00'];
    await refuseEach(system(), ({ schema, name }) =>
      schema.type !== 'integer'
        ? []
        : [...[...noIntegers, ...notDecimal].map(encodeURIComponent), ...notDecoded].map((text) => ({
            text: `${name}=${text}`,
            message: 'must be integer',
          })),
    );
  });

  test('a number outside its range is refused by the bare name of its parameter', async () => {
    await refuseEach(system(), ({ schema: { type, minimum = 0, maximum = 0 }, name }) => {
      if (type !== 'integer') return [];
      const below = [minimum - 1, -1, -999_999_999_999_999];
      const above = [maximum + 1, 999_999_999_999_999];
      return [
        ...below.map((number) => ({ text: `${name}=${number}`, message: `must be >= ${minimum}` })),
        ...above.map((number) => ({ text: `${name}=${number}`, message: `must be <= ${maximum}` })),
      ];
    });
  });

  test('a text of one character too many or too few is refused by the bare name of its parameter', async () => {
    await refuseEach(system(), ({ schema: { minLength = 0, maxLength }, name, in: place }) => {
      const asText = (value: string) => (place === 'path' ? value : `${name}=${encodeURIComponent(value)}`);
      const isTooLong = { message: `must NOT have more than ${maxLength} characters` };
      const isTooShort = { message: `must NOT have fewer than ${minLength} characters` };
      return [
        ...(maxLength === undefined ? [] : ['x'.repeat(maxLength + 1), '😀'.repeat(maxLength + 1)])
          // The router refuses longer ones before it looks for a route.
          .filter((value) => place === 'query' || value.length <= pathParameterMaxLength)
          .map((value) => ({ text: asText(value), ...isTooLong })),
        ...(minLength === 0 || place === 'path' ? [] : [{ text: asText('x'.repeat(minLength - 1)), ...isTooShort }]),
      ];
    });
  });

  test('an id in the path that is no UUID is refused by the bare name of its parameter', async () => {
    const uuid = '01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b';
    const nearly = [
      uuid.slice(1),
      `${uuid}0`,
      ` ${uuid}`,
      `${uuid}\n`,
      `{${uuid}}`,
      uuid.replaceAll('-', ''),
      `${uuid},`,
    ];
    const others = ['0', 'null', 'undefined', '*', '\0', '\u{1f600}', "' OR '1'='1", '../../users/me', '%00', '%2e%2e'];
    const texts = [...nearly, ...others, uuid.replace('0', 'g'), 'x'.repeat(pathParameterMaxLength)];
    await refuseEach(system(), ({ in: place, schema: { format } }) =>
      place === 'path' && format === 'uuid' ? texts.map((text) => ({ text, message: 'must match format "uuid"' })) : [],
    );
  });

  test('a word outside its list, or a time of another form, is refused by the bare name of its parameter', async () => {
    const times = ['0', '2026-01-01', '12:00:00Z', '2026-01-01T12:00:00', '2026-13-01T00:00:00Z', 'now', '1e9', ''];
    await refuseEach(system(), ({ schema: { enum: values, format }, name }) => {
      const refuse = (texts: readonly string[], message: string) =>
        texts.map((text) => ({ text: `${name}=${encodeURIComponent(text)}`, message }));
      if (format === 'date-time') return refuse(times, 'must match format "date-time"');
      if (values === undefined) return [];
      const [known = ''] = values as string[];
      const others = [known.toUpperCase(), ` ${known}`, `${known}\n`, `${known}\0`, '', 'unknown', '*'];
      return refuse(others, `must be one of ${values.join(', ')}`);
    });
  });

  test('a path that cannot be decoded or is too long for its parameter could not be read', async () => {
    const parameters = (await listParameters(system())).filter(({ in: place }) => place === 'path');
    const refusal: Refusal = { code: 'malformed_request' };
    await refuseRequests(
      system(),
      parameters.flatMap(({ requestWith, name }) => {
        const { path, ...request } = requestWith('here');
        const tooLong = [pathParameterMaxLength + 1, 5_000].map((length) => requestWith('x'.repeat(length)));
        const undecodable = ['%zz', '%', '%ff', '%c0%ae', '%ed%a0%80'].map((text) => ({
          ...request,
          path: path.replace('here', text),
        }));
        assert.ok(path.includes('here'), name);
        return [...tooLong, ...undecodable].map((candidate) => ({ request: candidate, refusal }));
      }),
    );
  });

  test('an unknown query parameter is refused by its bare name, however like a known one it is', async () => {
    await refuseEach(system(), ({ in: place, name }) => {
      if (place === 'path') return [];
      const near = [name.toUpperCase(), ` ${name}`, `${name}[]`, `${name}[0]`, `${name}.x`, `${name}\0`, `_${name}`];
      const others = ['unexpected', 'access_token', 'offset', '', '__proto__', 'constructor', 'toString', 'é'];
      return [...near, ...others].map((unknown) => ({
        text: `${encodeURIComponent(unknown)}=1`,
        message: 'is not a known field',
        path: unknown,
      }));
    });
  });

  test('a query parameter that is given twice is refused by its bare name, also with the same value', async () => {
    await refuseEach(system(), ({ in: place, name, schema: { type, enum: values } }) => {
      const message = values === undefined ? `must be ${type}` : `must be one of ${values.join(', ')}`;
      return place === 'path' || type === 'array'
        ? []
        : ['1', ''].map((value) => ({ text: `${name}=1&${name}=${value}`, message }));
    });
  });

  test('an invented cursor is refused by the bare name of its parameter', async () => {
    const contents = [
      '',
      'null',
      '{}',
      '[]',
      '[1]',
      '[null,"x"]',
      '["1","x"]',
      '[1.5,"x"]',
      '[1e300,"x"]',
      '[1,2]',
      '[1,null]',
      '[1,"x"]',
      '[1,"x\\u0000"]',
      '[1,"01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b",1]',
    ];
    const encoded = contents.map((content) => Buffer.from(content).toString('base64url'));
    await refuseEach(system(), ({ name }) =>
      name === 'cursor'
        ? [...encoded, 'x', '%00', '%ff', '%zz', '....', '-1']
            .filter((text) => text !== '')
            .map((text) => ({
              text: `cursor=${text}`,
              message: 'is not a cursor of this list',
            }))
        : [],
    );
  });

  test('every wrong parameter is named at once', async () => {
    const queries = (await listParameters(system())).filter(({ name }) => name === 'limit');
    await refuseRequests(
      system(),
      queries.map(({ requestWith }) => ({
        request: requestWith('limit=0&cursor=&x=1&y=2'),
        refusal: { code: 'validation_failed', paths: ['x', 'y', 'limit', 'cursor'] },
      })),
    );
  });

  test('who brings no token learns nothing about parameters', async () => {
    const secured = (await listParameters(system())).map(({ requestWith, in: place }) =>
      requestWith(place === 'path' ? 'x' : 'unexpected=1'),
    );
    const cases = secured.flatMap(({ token, ...request }) => (token === undefined ? [] : [request]));
    await refuseRequests(
      system(),
      cases.map((request: Call) => ({ request, refusal: { code: 'authentication_required' } })),
    );
  });

  test('what lies at the ends of its range is understood', async () => {
    for (const { schema, name, in: place, requestWith, label } of await listParameters(system())) {
      for (const text of understoodTexts(schema)) {
        const reply = await call(system(), requestWith(place === 'path' ? text : `${name}=${text}`));
        if (place === 'path') assertProblem(reply, 'not_found');
        else assert.equal(reply.status, 200, `${label}=${text}: ${reply.text}`);
      }
    }
  });
});

type ParameterCase = { text: string; message: string; path?: string };

/** Sends every case to every parameter: exactly this one fault is named, by the name of the parameter. */
async function refuseEach(
  system: System,
  makeCases: (parameter: Parameter) => readonly ParameterCase[],
): Promise<void> {
  const parameters = await listParameters(system);
  await refuseRequests(
    system,
    parameters.flatMap((parameter) =>
      makeCases(parameter).map(({ text, message, path = parameter.name }) => {
        const errors: FieldError[] = [{ path, message }];
        return { request: parameter.requestWith(text), refusal: { code: 'validation_failed', errors } };
      }),
    ),
  );
}

function understoodTexts({ type, format, minimum, maximum }: Schema): string[] {
  if (type === 'integer') return [String(minimum), String(maximum)];
  return format === 'uuid' ? ['01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b'] : [];
}
