import { createClient } from '@redis/client';
import { newSecret } from '../config.ts';
import { type PrivateServer, startPostgres, startRedis } from '../faults/servers.ts';
import { type CapturedLog, captureLog } from '../log.ts';
import { type MailServer, reply, startMailServer } from '../mail-server.ts';
import { type Backend, type System, startSystem } from '../system.ts';
import { dumpRedis } from './dump.ts';
import { noteConfiguration } from './exchange-secrets.ts';
import { createVault, type Vault } from './vault.ts';

/** A system in which everything that is secret is known, and everything that it says is kept. */
export type Scene = {
  system: System;
  vault: Vault;
  log: CapturedLog;
  mail: MailServer;
  metricsToken: string;
  /** Replies as they must not hold secrets. */
  replies: string[];
  addresses: string[];
  /** Lets every mail server refuse, in words that repeat all it was sent. */
  mailRefuses: boolean;
  postgres: PrivateServer | undefined;
  redis: PrivateServer | undefined;
  redisPassword: string;
  redisDump: string;
};

/** Starts a system with secrets of its own for everything, on servers of its own. */
export async function openScene(backend: Backend): Promise<Scene> {
  const [mailPassword, redisPassword, databasePassword] = [newSecret(), newSecret(), newSecret()];
  const scene = {
    vault: createVault(),
    log: captureLog(),
    replies: [],
    addresses: [],
    mailRefuses: false,
  } as never as Scene;
  const mail = await startMailServer({
    allowInsecureAuth: true,
    onAuth: ({ username, password }, _session, done) => {
      if (!scene.mailRefuses && password === mailPassword) done(null, { user: username ?? '' });
      else done(reply(535, `5.7.8 ${username} may not log in with ${password}`));
    },
    // A connection that is kept has logged in before the server refuses.
    onRcptTo: ({ address }, _session, done) => {
      done(scene.mailRefuses ? reply(451, `4.2.1 <${address}> is not known here`) : undefined);
    },
  });
  const environment: Record<string, string> = {
    SMTP_URL: `smtp://latchkey:${mailPassword}@127.0.0.1:${mail.port}?tls=off`,
    METRICS_TOKEN: newSecret(),
    HASH_THREADS: '1',
    HASH_QUEUE_MAX: '1',
    BCRYPT_COST: '6',
    RATE_LIMITS: 'on',
    LOG_LEVEL: 'trace',
  };
  let [postgres, redis]: [PrivateServer | undefined, PrivateServer | undefined] = [undefined, undefined];
  if (backend === 'postgres+redis') {
    [postgres, redis] = await Promise.all([startPostgres(), startRedis()]);
    // Set when it runs: the helper that waits for it has no password.
    await setRedisPassword(redis.url, redisPassword);
    environment.DATABASE_URL = postgres.url.replace('postgres@', `postgres:${databasePassword}@`);
    environment.REDIS_URL = redis.url.replace('redis://', `redis://:${redisPassword}@`);
  }
  const system = await startSystem('sqlite+memory', environment, scene.log);
  noteConfiguration(scene.vault, system.deps);
  const metricsToken = environment.METRICS_TOKEN ?? '';
  return Object.assign(scene, { system, mail, metricsToken, postgres, redis, redisPassword, redisDump: '' });
}

/** Adds what is in Redis now, because it loses that when it stops. */
export async function keepRedis(scene: Scene): Promise<void> {
  scene.redisDump += await dumpRedis(scene.system.deps.config.environment.REDIS_URL ?? '', '');
}

/** Ends the system and its servers. */
export async function closeScene(scene: Scene | undefined): Promise<void> {
  scene?.postgres?.thaw();
  await scene?.system.close();
  await scene?.mail.stop();
  await Promise.all([scene?.postgres?.remove(), scene?.redis?.remove()]);
}

/** Sets the password of a Redis that has none. */
export async function setRedisPassword(url: string, password: string): Promise<void> {
  const client = createClient({ url });
  await client.connect();
  await client.configSet('requirepass', password);
  client.destroy();
}
