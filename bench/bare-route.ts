import { fastify } from 'fastify';

/**
 * The reference: one Fastify route that answers with an object of the shape and, by its name, the size of GET /users/me,
 * serialised by a schema, and does nothing else. It keeps no log, reads no header and touches no database.
 */
const user = {
  id: '01890a5d-ac96-774b-bcce-b302099a8057',
  email: 'person00000000@example.com',
  name: '',
  locale: 'en',
  metadata: {},
  status: 'active',
  roles: ['user'],
  created_at: '2026-01-01T00:00:00.000Z',
  updated_at: '2026-01-01T00:00:00.000Z',
  last_login_at: '2026-01-01T00:00:00.000Z',
};
user.name = 'x'.repeat(Math.max(0, Number(process.env.REPLY_BYTES) - JSON.stringify(user).length));

const text = { type: 'string' };
const properties = {
  ...Object.fromEntries(Object.keys(user).map((name) => [name, text])),
  metadata: { type: 'object', additionalProperties: true },
  roles: { type: 'array', items: text },
};

const app = fastify();
app.get('/', { schema: { response: { 200: { type: 'object', properties } } } }, async () => user);
await app.listen({ host: process.env.HOST ?? '127.0.0.1', port: Number(process.env.PORT) });
process.once('SIGTERM', () => app.close());
