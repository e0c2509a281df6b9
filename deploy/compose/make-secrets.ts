import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

// `docker compose up` runs this before anything else. The first run makes every secret of the installation, and each run
// puts into the volume of each service what that service may read, and nothing else. No secret is in a variable, in the
// log or in a file of the host.
type Secrets = { secretKey: string; superuserPassword: string; databasePassword: string; redisPassword: string };

const [folder = '/secrets'] = process.argv.slice(2);
// The users of the images, by number.
const owners = { latchkey: 1000, postgres: 999, redis: 999 };
const newSecret = (): string => randomBytes(48).toString('base64url');

const { secretKey, superuserPassword, databasePassword, redisPassword } = readOrMake(join(folder, 'all/secrets.json'));

give('latchkey', 'secret_key', secretKey);
give('latchkey', 'database_url', `postgres://latchkey:${databasePassword}@postgres:5432/latchkey?sslmode=disable`);
give('latchkey', 'redis_url', `redis://:${redisPassword}@redis:6379`);
give('postgres', 'superuser_password', superuserPassword);
give('postgres', 'database_password', databasePassword);
give('redis', 'password', redisPassword);
// Nothing in Redis must survive a restart, and a full one must refuse rather than forget what was revoked.
give('redis', 'redis.conf', `requirepass ${redisPassword}\nsave ""\nmaxmemory 192mb\nmaxmemory-policy noeviction\n`);

/** Whole or not at all: a database that was made with one password must never meet another. */
function readOrMake(path: string): Secrets {
  if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8'));
  const made: Secrets = {
    secretKey: newSecret(),
    superuserPassword: newSecret(),
    databasePassword: newSecret(),
    redisPassword: newSecret(),
  };
  write(path, JSON.stringify(made), process.getuid?.() ?? 0);
  return made;
}

function give(service: keyof typeof owners, name: string, content: string): void {
  write(join(folder, service, name), content, owners[service]);
}

/** Under its name there is only ever a whole file, which nobody but its owner can read. */
function write(path: string, content: string, owner: number): void {
  const draft = `${path}.draft`;
  writeFileSync(draft, content, { mode: 0o600, flush: true });
  chmodSync(draft, 0o400);
  // Only root may give a file away, and only root is asked to.
  if (process.getuid?.() === 0) chownSync(draft, owner, owner);
  renameSync(draft, path);
}
