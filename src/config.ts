import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Ajv } from 'ajv';
import { ConfigError, describeFileError } from './config-error.ts';
import { type Environment, environmentSchema, fileVariables } from './config-schema.ts';
import { findDevelopmentSecret, findSecretProblems, readOrMakeDevelopmentSecret } from './config-secrets.ts';
import { findPostgresUrlFault } from './db/postgres-url.ts';
import { type RateLimits, readRateLimits } from './limit-table.ts';
import { findRedisUrlFault } from './redis-url.ts';
import { findSmtpUrlFault, readSmtpUrl, type SmtpServer } from './smtp-url.ts';

/** The validated configuration. `environment` holds every variable under its own name. */
export type Config = {
  isProduction: boolean;
  isDevelopment: boolean;
  environment: Environment;
  /** Newest first; at least one. */
  secretKeys: readonly [string, ...string[]];
  corsOrigins: readonly string[];
  trustedProxies: readonly string[];
  /** Undefined where RATE_LIMITS is off. */
  rateLimits: RateLimits | undefined;
};

type Property = { type?: string; default?: unknown; anyOf?: { const: string }[]; description?: string };
type RawEnvironment = Readonly<Record<string, string | undefined>>;

const properties = environmentSchema.properties as Record<string, Property>;
const schemaDefaults = Object.fromEntries(
  Object.entries(properties).flatMap(([name, property]) =>
    property.default === undefined ? [] : [[name, property.default]],
  ),
);
// The validator of requests, which is loaded anyway; TypeBox has one of its own, in three hundred further files.
const ajv = new Ajv({ allErrors: true, strict: true });
const defaultDataDir = './data';
const productionMinBcryptCost = 10;
const productionMinMetricsToken = 32;
/** Reads and validates the environment. Throws ConfigError with all problems at once. */
export function loadConfig(raw: RawEnvironment): Config {
  const problems: string[] = [];
  const given = readVariables(raw, problems);
  const isProduction = given.NODE_ENV === 'production';
  if (isProduction) requireInProduction(given, problems);
  const environment = readIntegers(withDefaults(given, isProduction)) as Environment;
  problems.push(...findSchemaProblems(environment), ...findContradictions(environment));
  problems.push(...findUrlProblems(given), ...findProxyProblems(environment));
  const { limits: rateLimits, faults } = readRateLimits(environment.RATE_LIMITS);
  problems.push(...faults.map((fault) => `RATE_LIMITS: ${fault}`));
  const givenSecrets = splitList(given.SECRET_KEY ?? '');
  if (given.SECRET_KEY !== undefined && givenSecrets.length === 0) problems.push('SECRET_KEY holds no value');
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
    rateLimits,
  };
}

/** Where the data is, for a command that needs nothing else: no secret is asked for, and none is made. */
export type DatabaseSettings = { dataDir: string; databaseUrl: string | undefined; startWaitSeconds: number };

/** What verifying the audit trail needs: the database, and the secrets where they are given. */
export type AuditSettings = { databaseUrl: string; secretKeys: readonly string[] };

/** Reads where the database is and which secrets there are, in development the one in DATA_DIR. Throws ConfigError. */
export function loadAuditSettings(raw: RawEnvironment): AuditSettings {
  const settings = loadDatabaseSettings(raw);
  const databaseUrl = databaseUrlOf(settings);
  const problems: string[] = [];
  const { SECRET_KEY: given } = readVariables(
    { SECRET_KEY: raw.SECRET_KEY, SECRET_KEY_FILE: raw.SECRET_KEY_FILE },
    problems,
  );
  if (problems.length > 0) throw new ConfigError(problems);
  if (given !== undefined) return { databaseUrl, secretKeys: splitList(given) };
  const made = raw.NODE_ENV === 'production' ? undefined : findDevelopmentSecret(settings.dataDir);
  return { databaseUrl, secretKeys: made === undefined ? [] : [made] };
}

/** Reads DATA_DIR, how long the database is waited for, and DATABASE_URL where it is set. Throws ConfigError. */
export function loadDatabaseSettings(raw: RawEnvironment): DatabaseSettings {
  const { DATA_DIR, DATABASE_URL, DATABASE_URL_FILE, DATABASE_START_WAIT_SECONDS } = raw;
  const problems: string[] = [];
  const given = readVariables({ DATA_DIR, DATABASE_URL, DATABASE_URL_FILE, DATABASE_START_WAIT_SECONDS }, problems);
  const fault = given.DATABASE_URL === undefined ? undefined : findDatabaseUrlFault(given.DATABASE_URL);
  if (fault !== undefined) problems.push(`DATABASE_URL ${fault}`);
  const environment = readIntegers(withDefaults(given, false)) as Environment;
  problems.push(...findSchemaProblems(environment).filter((problem) => problem.startsWith('DATABASE_START_WAIT_')));
  if (problems.length > 0) throw new ConfigError(problems);
  return {
    dataDir: given.DATA_DIR ?? defaultDataDir,
    databaseUrl: given.DATABASE_URL,
    startWaitSeconds: environment.DATABASE_START_WAIT_SECONDS,
  };
}

/** Where the database is: DATABASE_URL, or the SQLite file in DATA_DIR. */
export function databaseUrlOf({ dataDir, databaseUrl }: Pick<DatabaseSettings, 'dataDir' | 'databaseUrl'>): string {
  return databaseUrl ?? `sqlite:${join(dataDir, 'latchkey.db')}`;
}

/** Says what is wrong with the URL of a database, without repeating it: it may hold a password. */
export function findDatabaseUrlFault(url: string): string | undefined {
  if (!ajv.validate(environmentSchema.properties.DATABASE_URL, url)) return 'must be sqlite:<path> or postgres://…';
  return url.startsWith('sqlite:') ? undefined : findUrlFault(url);
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
      if (given[name] === '') problems.push(`${name}_FILE names an empty file`);
    } catch (error) {
      // Without the path: whoever mistook the variable has put the secret itself there.
      problems.push(`${name}_FILE cannot be read: ${describeFileError(error)}`);
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
  const dataDir = given.DATA_DIR ?? defaultDataDir;
  return {
    ...schemaDefaults,
    HOST: isProduction ? '0.0.0.0' : 'localhost',
    PUBLIC_URL: publicUrl,
    DATABASE_URL: databaseUrlOf({ dataDir, databaseUrl: undefined }),
    SECRET_KEY: '',
    MAIL_FROM: 'Latchkey <no-reply@localhost>',
    HASH_THREADS: Math.min(availableParallelism(), 8),
    ACCESS_TOKEN_AUDIENCE: publicUrl,
    ...given,
  };
}

/** Only decimal digits are an integer: `0x22`, `1e3` and `12.5` are somebody's mistake and stay text, which is refused. */
function readIntegers(values: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(values).map(([name, value]) => {
    const isInteger = properties[name]?.type === 'integer' && typeof value === 'string' && /^\d+$/.test(value);
    return [name, isInteger ? Number(value) : value];
  });
  return Object.fromEntries(entries);
}

function findSchemaProblems(environment: unknown): string[] {
  if (ajv.validate(environmentSchema, environment)) return [];
  const problems = (ajv.errors ?? []).map(({ instancePath, keyword, message }) => {
    const name = instancePath.slice(1);
    const { anyOf, description } = properties[name] ?? {};
    if (anyOf !== undefined) return `${name} must be one of ${anyOf.map((option) => option.const).join(', ')}`;
    return keyword === 'pattern'
      ? `${name} has the wrong form. ${description}`
      : `${name} ${message?.replace('NOT', 'not')}`;
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
  const { PORT, METRICS_PORT, METRICS_TOKEN } = environment;
  if (METRICS_PORT !== undefined && METRICS_PORT === PORT && PORT !== 0) {
    problems.push('METRICS_PORT must not be PORT');
  }
  if (isProduction && METRICS_TOKEN !== undefined && METRICS_TOKEN.length < productionMinMetricsToken) {
    problems.push(`METRICS_TOKEN must have at least ${productionMinMetricsToken} characters in production`);
  }
  return problems;
}

const serverUrls = ['PUBLIC_URL', 'DATABASE_URL', 'REDIS_URL', 'SMTP_URL'];

/** Looks at what the patterns of the schema let through. No problem repeats the URL, which may hold a password. */
function findUrlProblems(given: Record<string, string>): string[] {
  return serverUrls.flatMap((name) => {
    const text = given[name];
    if (text === undefined || text.startsWith('sqlite:') || !/^[a-z+]+:\/\/./.test(text)) return [];
    const fault = /^rediss?(?:\+(?:sentinel|cluster))?:/.test(text) ? findRedisUrlFault(text) : findUrlFault(text);
    return fault === undefined ? [] : [`${name} ${fault}`];
  });
}

function findUrlFault(text: string): string | undefined {
  if (!URL.canParse(text)) {
    return 'is not a valid URL: a port is a number up to 65535, and in a user name or password the characters : / ? # @ % must be percent-encoded';
  }
  const { protocol, hostname, port, username, password, pathname, hash } = new URL(text);
  if (port === '0') return 'names port 0';
  if (hash !== '') return 'has a # that is not percent-encoded';
  if (![username, password, hostname, pathname].every(isPercentEncoded)) return 'has a % that is not percent-encoded';
  if (protocol.startsWith('postgres')) return findPostgresUrlFault(text);
  if (hostname === '') return 'names no host';
  return protocol.startsWith('smtp') ? findSmtpUrlFault(text) : undefined;
}

function isPercentEncoded(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

function findProxyProblems({ TRUST_PROXY }: Environment): string[] {
  const strangers = splitList(TRUST_PROXY).filter((item) => !isAddressOrRange(item));
  return strangers.map((item) => `TRUST_PROXY names ${JSON.stringify(item)}, which is no IP address or CIDR range`);
}

/** Every part is spelled out: an abbreviation such as `10` or `10.1` would trust another machine than was meant. */
function isAddressOrRange(item: string): boolean {
  const [address = '', prefix, ...rest] = item.split('/');
  const family = address.includes('%') ? 0 : isIP(address);
  if (family === 0 || rest.length > 0) return false;
  if (prefix === undefined) return true;
  // A range of everybody is no proxy.
  return /^[1-9]\d{0,2}$/.test(prefix) && Number(prefix) <= (family === 4 ? 32 : 128);
}

const loopbackNames: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '::1', '[::1]']);

/** Whether a host can only mean the machine itself. */
export function isLoopback(host: string): boolean {
  return loopbackNames.has(host);
}

/**
 * Whether mail can be read at /dev/mailbox: in development without SMTP, on a system that calls itself a name
 * of this machine. A public one on which NODE_ENV was forgotten would else show every code to everybody.
 */
export function servesMailbox({ isDevelopment, environment }: Config): boolean {
  const { SMTP_URL, PUBLIC_URL } = environment;
  return isDevelopment && SMTP_URL === undefined && isLoopback(new URL(PUBLIC_URL).hostname);
}

/** The mail server, with how it is spoken to; undefined where there is none. */
export function smtpServer({ isProduction, environment: { SMTP_URL } }: Config): SmtpServer | undefined {
  if (SMTP_URL === undefined) return undefined;
  return readSmtpUrl(SMTP_URL, (host) => {
    // What goes to this machine crosses no network, and its mail server often has a certificate for no name at all.
    if (isLoopback(host)) return 'off';
    return isProduction ? 'required' : 'opportunistic';
  });
}

function splitList(list: string): string[] {
  return list
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
