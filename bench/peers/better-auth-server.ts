import { createHmac } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { DatabaseSync } from 'node:sqlite';
import { betterAuth } from 'better-auth';
import { hashPassword } from 'better-auth/crypto';
import { getMigrations } from 'better-auth/db/migration';
import { toNodeHandler } from 'better-auth/node';

/**
 * better-auth with its defaults, on Node's own SQLite and HTTP server, as durable as Latchkey: WAL, synchronous=FULL. Its
 * limits of requests are off, as are Latchkey's; it sends nothing anywhere.
 */
const { HOST = '127.0.0.1', PORT = '', DATABASE = '', SAMPLE = '', PASSWORD = '', USERS = '0' } = process.env;
const secret = 'a secret of the bench, which guards nothing at all';

const database = new DatabaseSync(DATABASE);
database.exec('pragma journal_mode = wal; pragma synchronous = full');
const auth = betterAuth({
  database,
  secret,
  baseURL: `http://${HOST}:${PORT}`,
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
});
const options = auth.options;
const { runMigrations } = await getMigrations(options);
await runMigrations();
if (database.prepare('select count(*) as count from user').get()?.count === 0) await seed();

const server = createServer(toNodeHandler(auth));
server.listen({ host: HOST, port: Number(PORT) });
process.once('SIGTERM', () => {
  server.close(() => process.exit(0));
  server.closeAllConnections();
});

/** Makes the users through better-auth itself, all with one password, and a session for each. */
async function seed(): Promise<void> {
  const { internalAdapter } = await auth.$context;
  const hash = await hashPassword(PASSWORD);
  const sample: { email: string; cookie: string }[] = [];
  database.exec('pragma synchronous = off');
  for (let index = 0; index < Number(USERS); index += 1) {
    const email = `person${String(index).padStart(8, '0')}@example.com`;
    const profile = { email, name: `Person ${index}`, emailVerified: true };
    const user = await internalAdapter.createUser(profile, { method: 'email-password' });
    await internalAdapter.linkAccount({
      userId: user.id,
      providerId: 'credential',
      accountId: user.id,
      password: hash,
    });
    const { token } = await internalAdapter.createSession(user.id, false);
    const signature = createHmac('sha256', secret).update(token).digest('base64');
    sample.push({ email, cookie: `better-auth.session_token=${encodeURIComponent(`${token}.${signature}`)}` });
  }
  database.exec('pragma synchronous = full');
  writeFileSync(SAMPLE, JSON.stringify(sample));
}
