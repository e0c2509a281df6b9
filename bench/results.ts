import { readFileSync, writeFileSync } from 'node:fs';
import type { LatencyMs, Spread } from './statistics.ts';

/** What was done: the rows of the table, in its order. */
export const works = {
  bare: 'a bare Fastify route',
  me: 'GET /users/me',
  me_first: 'GET /users/me, each token for the first time',
  refresh: 'POST /auth/refresh',
  hash: 'the hash function alone',
  login: 'POST /auth/login',
  me_before_storm: 'GET /users/me, no logins meanwhile',
  me_in_storm: 'GET /users/me, during a login storm',
  storm: 'POST /auth/login, the storm itself',
} as const;

export type WorkName = keyof typeof works;

// What comes nearest elsewhere.
const worksOfPeers: Readonly<Record<string, Partial<Record<WorkName, string>>>> = {
  'better-auth': { me: 'GET /api/auth/get-session', login: 'POST /api/auth/sign-in/email' },
  'oidc-provider': { me: 'GET /me (userinfo)', refresh: 'POST /token (refresh_token)' },
};

/** Says what was done, in the words of the server that did it. */
export function titleOf({ work, server }: { work: WorkName; server: string }): string {
  return worksOfPeers[server]?.[work] ?? works[work];
}

/** What a process took of the processors. One whole processor means that an event loop had no pause. */
export type CpuCost = { microsecondsPerRequest: number; processors: number };

/** One work of one server, over all rounds. */
export type WorkResult = {
  work: WorkName;
  /** Whose: `latchkey`, a peer, or the reference. */
  server: string;
  /** How many users are in the database; null where there is none. */
  users: number | null;
  connections: number;
  /** Requests in all rounds that count. */
  count: number;
  ratePerSecond: Spread;
  /** Of each round's percentiles the median, but of the slowest requests the slowest. */
  latencyMs: LatencyMs;
  /** Of the server's process; null where there is none, or where it did something else at the same time. */
  serverCpu: CpuCost | null;
  generatorCpu: CpuCost | null;
};

/** How a start went, and what memory it took. */
export type StartResult = {
  name: string;
  server: string;
  users: number | null;
  starts: number;
  readyMs: Spread;
  idleMegabytes: Spread;
};

/** A promise of speed and what was measured. */
export type Budget = {
  name: string;
  /** At least, of a ratio; less than, of anything else. */
  bound: number;
  measured: number;
  unit: 'ratio' | 'ms' | 'MB';
  isMet: boolean;
};

/** Where the event loop spent its time in one work, as parts of the time in which it was not idle. */
export type ProfileResult = {
  work: 'me' | 'refresh' | 'login';
  /** Whose code it was: Node, a package, or a folder of ours. */
  owners: { name: string; share: number }[];
  functions: { name: string; share: number }[];
};

/** Everything that one run found, as it is written to JSON. */
export type Results = {
  takenAt: string;
  database: 'sqlite' | 'postgres';
  command: string;
  elapsedSeconds: number;
  machine: {
    processor: string;
    processors: number;
    memoryMebibytes: number;
    system: string;
    fileSystem: string;
    fsyncMs: number;
    /** Of the minute before anything was measured, the seeding included: processes that wanted a processor. */
    loadAverage: number;
  };
  versions: Record<string, string>;
  settings: Record<string, string | number>;
  works: WorkResult[];
  starts: StartResult[];
  profiles: ProfileResult[];
  budgets: Budget[];
};

/** Writes results as JSON, whose names are snake_case. */
export function writeResults(path: string, results: Results): void {
  writeFileSync(path, `${JSON.stringify(renameKeys(results, toSnakeCase), null, 2)}\n`);
}

/** Reads what `writeResults` wrote. */
export function readResults(path: string): Results {
  return renameKeys(JSON.parse(readFileSync(path, 'utf8')), toCamelCase) as Results;
}

// What is under these is named by others: packages, and settings as the environment spells them.
const namedByOthers: ReadonlySet<string> = new Set(['versions', 'settings']);

function renameKeys(value: unknown, rename: (key: string) => string): unknown {
  if (Array.isArray(value)) return value.map((item) => renameKeys(item, rename));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, item]) => [
    rename(key),
    namedByOthers.has(key) ? item : renameKeys(item, rename),
  ]);
  return Object.fromEntries(entries);
}

function toSnakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function toCamelCase(key: string): string {
  return key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
