import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, databaseUrlOf, loadConfig, loadDatabaseSettings } from '../config.ts';
import { ConfigError } from '../config-error.ts';
import { randomToken } from '../crypto/secrets.ts';
import { checkDatabase, checkPrivacy } from './database.ts';
import { type Finding, ok, problem, skipped } from './finding.ts';
import { checkMail } from './mail.ts';
import { checkPublicAddress } from './public-address.ts';
import { checkRedis } from './redis.ts';
import { checkRuntime, checkSettings, type Runtime } from './settings.ts';
import { checkStored } from './stored.ts';

type Environment = Readonly<Record<string, string | undefined>>;
/** `isProbing`: PUBLIC_URL is asked also where it is another machine. */
type DiagnosisOptions = { isProbing: boolean; nowMs: number; runtime: Runtime };

/**
 * Looks at the whole installation that the environment describes and says what it found. It changes nothing: it makes no
 * file and no table, writes no row and sends no mail.
 */
export async function diagnose(environment: Environment, options: DiagnosisOptions): Promise<Finding[]> {
  const runtime = checkRuntime(options.runtime);
  const hasSecret = findsSecret(environment);
  try {
    // One of its own would be made and kept where none is there yet.
    const config = loadConfig(hasSecret ? environment : { ...environment, SECRET_KEY: randomToken() });
    return [
      runtime,
      ok('configuration', 'The configuration is valid.'),
      ...(await checkParts(config, hasSecret, options)),
    ];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return [runtime, ...error.problems.map(describeConfigProblem), ...(await checkDatabaseAlone(environment))];
  }
}

async function checkParts(config: Config, hasSecret: boolean, options: DiagnosisOptions): Promise<Finding[]> {
  const { DATABASE_URL, DATABASE_POOL_MAX, REDIS_URL } = config.environment;
  const [database, redis, mail] = await Promise.all([
    checkDatabase(DATABASE_URL, DATABASE_POOL_MAX),
    checkRedis(REDIS_URL),
    checkMail(config),
  ]);
  const { hasRows } = database;
  return [
    ...checkSettings(config),
    ...checkSecretFile(config),
    ...database.findings,
    ...(hasRows ? await checkStored(config, hasSecret, options.nowMs) : []),
    ...redis,
    ...mail,
    await checkPublicAddress(config, { isProbing: options.isProbing, hasRows }),
  ];
}

function describeConfigProblem(fault: string): Finding {
  return problem('configuration', {
    what: `${fault}.`.replace(/\.\.$/, '.'),
    why: 'The service does not start like this.',
    remedy: 'Correct it; docs/configuration.md says what each variable may be.',
  });
}

/** Where the configuration is wrong elsewhere, the database is still worth a look. */
async function checkDatabaseAlone(environment: Environment): Promise<Finding[]> {
  const rest = skipped('rest', 'Redis, mail, keys and addresses are looked at when the configuration is valid.');
  try {
    const url = databaseUrlOf(loadDatabaseSettings(environment));
    return [...(await checkDatabase(url, undefined)).findings, rest];
  } catch (error) {
    if (error instanceof ConfigError) return [rest];
    throw error;
  }
}

function findsSecret({ SECRET_KEY, SECRET_KEY_FILE, DATA_DIR, NODE_ENV }: Environment): boolean {
  if (SECRET_KEY || SECRET_KEY_FILE || NODE_ENV === 'production') return true;
  return existsSync(join(DATA_DIR || './data', 'secret.key'));
}

function checkSecretFile({ environment: { DATA_DIR } }: Config): Finding[] {
  const path = join(DATA_DIR, 'secret.key');
  return existsSync(path) ? [checkPrivacy('secret_file', path)] : [];
}
