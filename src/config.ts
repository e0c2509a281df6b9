import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Value } from 'typebox/value';
import { type Environment, environmentSchema, fileVariables } from './config-schema.ts';
import { randomToken } from './crypto/secrets.ts';

/** The validated configuration. `environment` holds every variable under its own name. */
export type Config = {
  isProduction: boolean;
  isDevelopment: boolean;
  environment: Environment;
  /** Newest first; at least one. */
  secretKeys: readonly [string, ...string[]];
  corsOrigins: readonly string[];
  trustedProxies: readonly string[];
};

type Property = { anyOf?: { const: string }[]; description?: string };
type RawEnvironment = Readonly<Record<string, string | undefined>>;

/** Thrown at the start with everything that is wrong, so that it can be mended in one go. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`The configuration is not usable:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`);
    this.problems = problems;
  }
}

const minSecretBytes = 32;
const minDistinctCharacters = 10;
const productionMinBcryptCost = 10;
// Words that turn up in examples and never in 32 random bytes.
const exampleSecretPattern = /change.?me|example|secret|password|latchkey|your.?key|0123456789abcdef/i;

/** Reads and validates the environment. Throws ConfigError with all problems at once. */
export function loadConfig(raw: RawEnvironment): Config {
  const problems: string[] = [];
  const given = readVariables(raw, problems);
  const isProduction = given.NODE_ENV === 'production';
  if (isProduction) requireInProduction(given, problems);
  const environment = Value.Convert(environmentSchema, withDefaults(given, isProduction)) as Environment;
  problems.push(...findSchemaProblems(environment), ...findContradictions(environment));
  const givenSecrets = splitList(given.SECRET_KEY ?? '');
  problems.push(...findSecretProblems(givenSecrets));
  if (problems.length > 0) throw new ConfigError(problems);
  const [newest = readOrMakeDevelopmentSecret(environment.DATA_DIR), ...older] = givenSecrets;
  return {
    isProduction,
    isDevelopment: environment.NODE_ENV === 'development',
    environment,
    secretKeys: [newest, ...older],
    corsOrigins: splitList(environment.CORS_ORIGINS),
    trustedProxies: splitList(environment.TRUST_PROXY),
  };
}

function readVariables(raw: RawEnvironment, problems: string[]): Record<string, string> {
  const given: Record<string, string> = {};
  for (const name of Object.keys(environmentSchema.properties)) {
    const value = raw[name];
    // An empty variable is how compose files and shells say "not set".
    if (value !== undefined && value !== '') given[name] = value;
  }
  for (const name of fileVariables) {
    const path = raw[`${name}_FILE`];
    if (path === undefined || path === '') continue;
    if (given[name] !== undefined) {
      problems.push(`${name} and ${name}_FILE are both set; set one`);
      continue;
    }
    try {
      given[name] = readFileSync(path, 'utf8').trim();
    } catch (error) {
      problems.push(`${name}_FILE cannot be read: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return given;
}

function requireInProduction(given: Record<string, string>, problems: string[]): void {
  for (const name of ['SECRET_KEY', 'PUBLIC_URL', 'SMTP_URL', 'MAIL_FROM']) {
    if (given[name] === undefined) problems.push(`${name} is required in production`);
  }
}

function withDefaults(given: Record<string, string>, isProduction: boolean): Record<string, unknown> {
  const port = given.PORT ?? '8000';
  const publicUrl = given.PUBLIC_URL ?? `http://localhost:${port}`;
  const dataDir = given.DATA_DIR ?? './data';
  const defaults = Value.Default(environmentSchema, {
    HOST: isProduction ? '0.0.0.0' : 'localhost',
    PUBLIC_URL: publicUrl,
    DATABASE_URL: `sqlite:${join(dataDir, 'latchkey.db')}`,
    SECRET_KEY: '',
    MAIL_FROM: 'Latchkey <no-reply@localhost>',
    HASH_THREADS: Math.min(availableParallelism(), 8),
    ACCESS_TOKEN_AUDIENCE: publicUrl,
  }) as Record<string, unknown>;
  return { ...defaults, ...given };
}

function findSchemaProblems(environment: unknown): string[] {
  const properties = environmentSchema.properties as Record<string, Property>;
  const problems = Value.Errors(environmentSchema, environment).map(({ instancePath, keyword, message }) => {
    const name = instancePath.slice(1);
    const { anyOf, description } = properties[name] ?? {};
    if (anyOf !== undefined) return `${name} must be one of ${anyOf.map((option) => option.const).join(', ')}`;
    return keyword === 'pattern' ? `${name} has the wrong form. ${description}` : `${name} ${message}`;
  });
  return [...new Set(problems)];
}

function findContradictions(environment: Environment): string[] {
  const problems: string[] = [];
  const isProduction = environment.NODE_ENV === 'production';
  if (environment.SESSION_IDLE_TTL_SECONDS > environment.SESSION_MAX_TTL_SECONDS) {
    problems.push('SESSION_IDLE_TTL_SECONDS must not be longer than SESSION_MAX_TTL_SECONDS');
  }
  if (environment.ACCESS_TOKEN_TTL_SECONDS > environment.SESSION_IDLE_TTL_SECONDS) {
    problems.push('ACCESS_TOKEN_TTL_SECONDS must not be longer than SESSION_IDLE_TTL_SECONDS');
  }
  if (isProduction && environment.RATE_LIMITS === 'off') problems.push('RATE_LIMITS must not be off in production');
  if (isProduction && environment.PASSWORD_HASH === 'bcrypt' && environment.BCRYPT_COST < productionMinBcryptCost) {
    problems.push(`BCRYPT_COST must be at least ${productionMinBcryptCost} in production`);
  }
  return problems;
}

function findSecretProblems(secrets: readonly string[]): string[] {
  const faults = secrets.flatMap((secret, index) => {
    const fault = findSecretFault(secret);
    return fault === undefined ? [] : [`SECRET_KEY: value ${index + 1} ${fault}`];
  });
  return new Set(secrets).size === secrets.length ? faults : [...faults, 'SECRET_KEY names the same value twice'];
}

function findSecretFault(secret: string): string | undefined {
  if (Buffer.byteLength(secret) < minSecretBytes) return `is shorter than ${minSecretBytes} bytes`;
  if (new Set(secret).size < minDistinctCharacters) return 'repeats too few characters to be random';
  if (exampleSecretPattern.test(secret)) return 'looks like an example; make one with: openssl rand -base64 48';
  return undefined;
}

/** In development a missing key is made once and kept, so that sessions survive a restart. */
function readOrMakeDevelopmentSecret(dataDir: string): string {
  const path = join(dataDir, 'secret.key');
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  try {
    // "wx" lets only one of two processes that start together make the file; the other reads it.
    writeFileSync(path, `${randomToken()}${randomToken()}\n`, { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readFileSync(path, 'utf8').trim();
}

function splitList(list: string): string[] {
  return list
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
