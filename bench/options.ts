import { basename, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Installation } from './program.ts';

/** What can be measured alone. */
const parts = ['me', 'refresh', 'login', 'storm', 'start'] as const;
export type Part = (typeof parts)[number];

/** How many rounds, those that warm up and do not count before the others, and how long each side has in one. */
export type Rounds = { warmUps: number; rounds: number; durationMs: number };

/** What one run does. */
export type BenchOptions = {
  /** How it was called, for whoever wants to do it again. */
  command: string;
  backend: Installation['backend'];
  /** Of each number of users a database. The first is what everything else is compared with. */
  users: readonly number[];
  parts: ReadonlySet<Part>;
  withPeers: boolean;
  bcryptCost: number;
  connections: number;
  requests: Rounds;
  logins: Rounds;
  storm: Rounds;
  starts: { warmUps: number; times: number; idleMs: number };
  jsonPath: string | undefined;
  profileFolder: string | undefined;
};

const whole = {
  requests: { warmUps: 1, rounds: 7, durationMs: 1_500 },
  logins: { warmUps: 1, rounds: 4, durationMs: 5_000 },
  storm: { warmUps: 1, rounds: 5, durationMs: 3_000 },
  starts: { warmUps: 1, times: 5, idleMs: 1_500 },
};
// To see that everything works, and nothing else.
const quick = {
  requests: { warmUps: 0, rounds: 1, durationMs: 200 },
  logins: { warmUps: 0, rounds: 1, durationMs: 200 },
  storm: { warmUps: 0, rounds: 1, durationMs: 200 },
  starts: { warmUps: 0, times: 1, idleMs: 100 },
};

/** Reads the flags of `npm run bench`. */
export function readOptions(args: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean', default: false },
      peers: { type: 'boolean', default: false },
      database: { type: 'string', default: 'sqlite' },
      users: { type: 'string' },
      only: { type: 'string', default: parts.join(',') },
      connections: { type: 'string', default: '32' },
      'bcrypt-cost': { type: 'string', default: '12' },
      json: { type: 'string' },
      profile: { type: 'string' },
    },
  });
  return {
    command: ['npm run bench', ...(args.length === 0 ? [] : ['--', ...args.map(withoutFolder)])].join(' '),
    ...(values.quick ? quick : whole),
    backend: readBackend(values.database),
    users: (values.users ?? (values.quick ? '1000' : '1000,1000000')).split(',').map(readCount),
    parts: new Set(values.only.split(',').map(readPart)),
    withPeers: values.peers,
    bcryptCost: readCount(values['bcrypt-cost']),
    connections: readCount(values.connections),
    jsonPath: values.json,
    // The program that writes into it works in another folder.
    profileFolder: values.profile === undefined ? undefined : resolve(values.profile),
  };
}

/** Where somebody keeps their files is of no use to others. */
function withoutFolder(arg: string): string {
  return arg.startsWith('/') ? basename(arg) : arg;
}

function readBackend(database: string): Installation['backend'] {
  if (database === 'sqlite') return 'sqlite+memory';
  if (database === 'postgres') return 'postgres+redis';
  throw new Error('--database is sqlite or postgres');
}

function readPart(name: string): Part {
  const part = parts.find((known) => known === name);
  if (part === undefined) throw new Error(`--only takes ${parts.join(', ')}, with commas between them`);
  return part;
}

function readCount(text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1) throw new Error(`${JSON.stringify(text)} is no number of anything`);
  return count;
}
