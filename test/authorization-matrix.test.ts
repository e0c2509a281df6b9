import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { OpenAPIV3_1 } from 'openapi-types';
import { type BuiltInPermission, builtInPermissions } from '../src/permissions.ts';
import { openSession, registerUser, type TestUser } from './accounts.ts';
import { registerAdministrator, registerWith } from './administrators.ts';
import { assertProblem, type Call, call, type Reply } from './client.ts';
import { sessionId } from './session-endings.ts';
import { type System, startSystem } from './system.ts';

const methods = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'] as const;

/** Who gets past the guards of a route: anyone, whoever is logged in, or who holds a permission. */
type Access = 'anyone' | 'user' | BuiltInPermission;

/** Every route of the service. A route that is not here fails the test, and so does a row without a route. */
const matrix: Readonly<Record<string, Access>> = {
  'POST /auth/send-code': 'anyone',
  'POST /auth/verify-code': 'anyone',
  'POST /auth/register': 'anyone',
  'POST /auth/login': 'anyone',
  'POST /auth/login/code': 'anyone',
  'POST /auth/refresh': 'anyone',
  'POST /auth/logout': 'anyone',
  'POST /auth/reset-password': 'anyone',
  'POST /auth/reauthenticate': 'user',
  'GET /users/me': 'user',
  'PATCH /users/me': 'user',
  'PUT /users/me/password': 'user',
  'POST /users/me/email': 'user',
  'PUT /users/me/email': 'user',
  'GET /users/me/export': 'user',
  'GET /users/me/sessions': 'user',
  'DELETE /users/me/sessions': 'user',
  'DELETE /users/me/sessions/:id': 'user',
  'GET /users': 'users:read',
  'GET /users/:id': 'users:read',
  'POST /users': 'users:write',
  'PATCH /users/:id': 'users:write',
  'DELETE /users/:id': 'users:write',
  'PUT /users/:id/roles': 'roles:assign',
  'GET /users/:id/sessions': 'sessions:read',
  'DELETE /users/:id/sessions': 'sessions:write',
  'GET /roles': 'roles:read',
  'PUT /roles/:name': 'roles:write',
  'DELETE /roles/:name': 'roles:write',
  'GET /audit-events': 'audit:read',
  'GET /.well-known/jwks.json': 'anyone',
  'GET /health/live': 'anyone',
  'GET /health/ready': 'anyone',
  'GET /openapi.json': 'anyone',
  'GET /docs': 'anyone',
  'GET /docs/': 'anyone',
  'GET /docs/errors': 'anyone',
  'GET /docs/json': 'anyone',
  'GET /docs/yaml': 'anyone',
  'GET /docs/*': 'anyone',
  // Last, because whoever gets through is gone.
  'DELETE /users/me': 'user',
};

/** Who makes a request, with everything that they hold. */
type Caller = { who: string; token?: string; permissions: readonly string[] };

describe('the authorization of every route', () => {
  let system: System;
  let subject: TestUser;
  let callers: Caller[];

  before(async () => {
    system = await startSystem('sqlite+memory');
    subject = await registerUser(system);
    const another = await registerUser(system);
    // So that the one who is walked with may be deleted.
    await registerAdministrator(system);
    const admin = await registerAdministrator(system);
    const holders: Caller[] = [];
    for (const permission of Object.keys(builtInPermissions)) {
      const { accessToken: token } = await registerWith(system, [permission]);
      holders.push({ who: `a user with ${permission}`, token, permissions: [permission] });
    }
    callers = [
      { who: 'nobody', permissions: [] },
      { who: 'the user', token: subject.accessToken, permissions: [] },
      { who: 'another user', token: another.accessToken, permissions: [] },
      ...holders,
      { who: 'an administrator', token: admin.accessToken, permissions: Object.keys(builtInPermissions) },
    ];
  });
  after(() => system?.close());

  test('the table has a row for every route, and every row has a route', async () => {
    const found: string[] = [];
    for (const path of listPaths(system)) {
      for (const method of methods) if (await isAnswered(system, method, path)) found.push(`${method} ${path}`);
    }
    assert.deepEqual(found.sort(), Object.keys(matrix).sort());
  });

  for (const [route, access] of Object.entries(matrix)) {
    test(`${route} is for ${access}`, async () => {
      for (const caller of callers) {
        const reply = await call(system, requestOf(route, caller.token));
        try {
          judge(reply, caller, access);
        } catch (error) {
          throw new Error(`${caller.who}: ${(error as Error).message}`, { cause: error });
        }
      }
    });
  }

  test('the document says of every route who may use it', () => {
    const { paths = {} } = system.app.swagger() as OpenAPIV3_1.Document;
    const documented = Object.entries(paths).flatMap(([path, item]) =>
      Object.entries(item ?? {}).map(([method, operation]) => {
        const { security = [], 'x-permission': permission } = operation as OpenAPIV3_1.OperationObject & {
          'x-permission'?: string;
        };
        // Also with a token is not only with a token.
        const isOpen = security.length === 0 || security.some((way) => Object.keys(way).length === 0);
        return [
          `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`,
          permission ?? (isOpen ? 'anyone' : 'user'),
        ];
      }),
    );
    const rows = Object.entries(matrix).filter(([route]) => !/ \/(?:docs|openapi)/.test(route));
    assert.deepEqual(new Map(documented.sort() as [string, string][]), new Map(rows.sort()));
  });

  test('one’s own routes serve nobody else, whatever they hold', async () => {
    const owner = await registerUser(system);
    const second = await openSession(system, owner);
    const path = `/users/me/sessions/${sessionId(second)}`;
    for (const permissions of [[], Object.keys(builtInPermissions)]) {
      const other = await registerWith(system, permissions);
      assertProblem(await call(system, { method: 'DELETE', path, token: other.accessToken }), 'not_found');
      const { body } = await call(system, { method: 'GET', path: '/users/me', token: other.accessToken });
      assert.equal(body.id, other.id);
    }
    assert.equal((await call(system, { method: 'DELETE', path, token: owner.accessToken })).status, 204);
  });

  /** A request that is refused behind the guards wherever it could change something that the rest of the walk needs. */
  function requestOf(route: string, token: string | undefined): Call {
    const [method = '', template = ''] = route.split(' ');
    const path = template.replace(/:\w+/g, method === 'GET' ? subject.id : 'not~an~id').replace('*', 'nothing.js');
    const hasBody = method === 'POST' || method === 'PUT' || method === 'PATCH';
    return {
      method: method as Call['method'],
      path,
      ...(token === undefined ? {} : { token }),
      ...(hasBody ? { body: { unexpected: true } } : {}),
    };
  }
});

function judge(reply: Reply, { token, permissions }: Caller, access: Access): void {
  if (access !== 'anyone' && token === undefined) {
    assertProblem(reply, 'authentication_required');
    assert.equal(reply.headers['www-authenticate'], 'Bearer realm="latchkey"');
    return;
  }
  if (access !== 'anyone' && access !== 'user' && !permissions.includes(access)) {
    assertProblem(reply, 'insufficient_permission', { detail: `This needs ${access}.` });
    const challenge = reply.headers['www-authenticate'] ?? '';
    assert.ok(challenge.includes('error="insufficient_scope"') && challenge.endsWith(`scope="${access}"`), challenge);
    return;
  }
  // Let through: carried out, or refused for what the request itself is.
  assert.ok(![401, 403, 405].includes(reply.status) && reply.status < 500, reply.text);
  if (access !== 'anyone') assert.ok([200, 204, 404, 422].includes(reply.status), reply.text);
}

/** Every path that the router knows, as its own tree of them says. */
function listPaths({ app }: System): string[] {
  const parents: string[] = [];
  const paths = new Set<string>();
  for (const line of app.printRoutes({ commonPrefix: false }).split('\n')) {
    const [, indent = '', part = ''] = /^([│├└─ ]*)(\S+)/.exec(line) ?? [];
    if (part === '') continue;
    const depth = indent.length / 4;
    parents.length = depth - 1;
    const path = parents.join('') + part;
    parents.push(part);
    if (line.includes('(')) paths.add(path);
  }
  return [...paths];
}

/** Whether a path answers a method with more than that it does not. */
async function isAnswered({ app }: System, method: (typeof methods)[number], url: string): Promise<boolean> {
  // The files of Swagger UI, which the router does not find by their pattern.
  if (url.endsWith('*')) return method === 'GET';
  if (!app.findRoute({ method, url })) return false;
  return (await app.inject({ method, url: url.replace(/:\w+/g, 'x') })).statusCode !== 405;
}
