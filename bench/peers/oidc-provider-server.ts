import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { Provider } from 'oidc-provider';
import { createSqliteAdapter } from './oidc-sqlite-adapter.ts';

/**
 * oidc-provider with its defaults and a durable adapter on Node's own SQLite: WAL, synchronous=FULL. The signing
 * algorithm is Latchkey's, ES256, which is quicker than the RS256 that it would choose. Refresh tokens rotate, which is
 * its own default for a public client.
 */
const { HOST = '127.0.0.1', PORT = '', DATABASE = '', SAMPLE = '', USERS = '0' } = process.env;
const clientId = 'bench';
const scope = 'openid email offline_access';

const database = new DatabaseSync(DATABASE);
database.exec('pragma journal_mode = wal; pragma synchronous = full');
database.exec('create table if not exists accounts (id text primary key, email text not null) strict');
const { adapter, hasModels } = createSqliteAdapter(database);
const findEmail = database.prepare('select email from accounts where id = ?');
const signingKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });

const provider = new Provider(`http://${HOST}:${PORT}`, {
  adapter,
  clients: [
    {
      client_id: clientId,
      token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token'],
      redirect_uris: ['https://client.example.com/callback'],
      id_token_signed_response_alg: 'ES256',
    },
  ],
  claims: { openid: ['sub'], email: ['email'] },
  cookies: { keys: ['a key of the bench, which guards nothing at all'] },
  features: { devInteractions: { enabled: false } },
  findAccount: async (_context: unknown, id: string) => {
    const row = findEmail.get(id);
    return row === undefined ? undefined : { accountId: id, claims: async () => ({ sub: id, email: row.email }) };
  },
  jwks: { keys: [{ ...signingKey, alg: 'ES256', use: 'sig' }] },
});
if (!hasModels()) await seed();

const server = provider.listen(Number(PORT), HOST);
process.once('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});

/** Makes accounts with a grant, an access token and a refresh token each, as a finished authorization would. */
async function seed(): Promise<void> {
  const client = await provider.Client.find(clientId);
  if (client === undefined) throw new Error('the client of the bench is not there');
  const insert = database.prepare('insert into accounts (id, email) values (?, ?)');
  const sample: { sub: string; accessToken: string; refreshToken: string }[] = [];
  database.exec('pragma synchronous = off');
  for (let index = 0; index < Number(USERS); index += 1) {
    const sub = `person${String(index).padStart(8, '0')}`;
    insert.run(sub, `${sub}@example.com`);
    const grant = new provider.Grant({ accountId: sub, clientId });
    grant.addOIDCScope(scope);
    const grantId = await grant.save();
    const common = { accountId: sub, client, grantId, gty: 'authorization_code', scope, claims: {} };
    const refreshToken = await new provider.RefreshToken({ ...common, authTime: 1, rotations: 0 }).save();
    const accessToken = await new provider.AccessToken(common).save();
    sample.push({ sub, accessToken, refreshToken });
  }
  database.exec('pragma synchronous = full');
  writeFileSync(SAMPLE, JSON.stringify(sample));
}
