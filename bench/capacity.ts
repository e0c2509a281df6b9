import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Measurement, ScalingResults } from './scaling.ts';

/**
 * `npm run bench:capacity`: what so many users need, reckoned from what `bench:scaling` has measured. Prints the
 * tables of docs/scaling.md, and with `--write` puts them there.
 */
const page = 'docs/scaling.md';
const defaultInput = 'docs/scaling.json';
const daySeconds = 86_400;
const bytesPerGigabyte = 1_000_000_000;

/** What users do. Nothing of it was measured: put your own numbers here. */
export const habits = {
  activeShare: 0.3,
  loginsPerActiveDay: 0.1,
  refreshesPerActiveDay: 4,
  readsPerActiveDay: { everywhere: 100, 'here alone': 4 },
  peakFactor: 4,
  sessionsPerUser: 1.5,
  devicesPerUser: 2,
  // Of a login, and of half of the sessions their end.
  eventsPerLogin: 1.5,
  retentionDays: 365,
} as const;
// Above that, those who come at once wait for each other.
const utilisation = 0.6;
const connectionsPerInstance = 10;
const cachedSeconds = 10;
const userCounts = [1_000_000, 10_000_000, 100_000_000] as const;

/** Who asks the service whether a token is still good: every API at each call, or only the client's start. */
export type Checking = keyof (typeof habits)['readsPerActiveDay'];

/** What an installation of a size needs at its busiest hour. */
export type Need = {
  users: number;
  checking: Checking;
  readsPerSecond: number;
  refreshesPerSecond: number;
  loginsPerSecond: number;
  /** Cores for the event loops, of which each instance has one. */
  loopCores: number;
  hashingCores: number;
  instances: number;
  balancerCores: number;
  postgresCores: number;
  transactionsPerSecond: number;
  /** Transactions that write, each of which waits for the disk. */
  commitsPerSecond: number;
  walMegabytesPerSecond: number;
  connections: number;
  redisCores: number;
  redisMegabytes: number;
  /** Users, sessions and devices: what should fit into PostgreSQL's memory. */
  hotGigabytes: number;
  auditGigabytes: number;
};

/** Reckons what so many users need from what one request costs. */
export function reckon(results: ScalingResults, users: number, checking: Checking): Need {
  const active = users * habits.activeShare;
  const peak = (perActiveDay: number) => ((active * perActiveDay) / daySeconds) * habits.peakFactor;
  const rates = {
    me: peak(habits.readsPerActiveDay[checking]),
    refresh: peak(habits.refreshesPerActiveDay),
    login: peak(habits.loginsPerActiveDay),
  };
  const costs = { me: costOf(results, 'me'), refresh: costOf(results, 'refresh'), login: costOf(results, 'login') };
  const works = ['me', 'refresh', 'login'] as const;
  const sum = (pick: (cost: Measurement['cost']) => number, of: readonly (keyof typeof costs)[] = works) =>
    of.reduce((total, work) => total + rates[work] * pick(costs[work]), 0);
  const cores = (milliseconds: number) => milliseconds / 1000 / utilisation;
  const loopCores = cores(sum((cost) => cost.instanceCpuMs, ['me', 'refresh']));
  // Two at least, so that one can be replaced.
  const instances = Math.max(2, Math.ceil(loopCores));
  const { storageBytes: bytes } = results;
  const hotBytes = bytes.user + habits.sessionsPerUser * bytes.session + habits.devicesPerUser * bytes.device;
  const eventsKept = active * habits.loginsPerActiveDay * habits.eventsPerLogin * habits.retentionDays;
  const cachedEntries = Math.min(active, rates.me * cachedSeconds);
  return {
    users,
    checking,
    readsPerSecond: rates.me,
    refreshesPerSecond: rates.refresh,
    loginsPerSecond: rates.login,
    loopCores,
    hashingCores: cores(sum((cost) => cost.instanceCpuMs, ['login'])),
    instances,
    balancerCores: cores(sum((cost) => cost.balancerCpuMs)),
    postgresCores: cores(sum((cost) => cost.postgresCpuMs)),
    transactionsPerSecond: sum((cost) => cost.transactions),
    commitsPerSecond: rates.refresh + rates.login,
    walMegabytesPerSecond: sum((cost) => cost.walBytes, ['refresh', 'login']) / 1_000_000,
    connections: instances * connectionsPerInstance,
    redisCores: cores(sum((cost) => cost.redisCpuMs)),
    redisMegabytes: (cachedEntries * (results.redisBytes['sessions']?.bytes ?? 0)) / 1_000_000,
    hotGigabytes: (users * hotBytes) / bytesPerGigabyte,
    auditGigabytes: (eventsKept * bytes.auditEvent) / bytesPerGigabyte,
  };
}

function costOf({ measurements }: ScalingResults, work: Measurement['work']): Measurement['cost'] {
  const found = measurements.find((measurement) => measurement.work === work && measurement.instances === 1);
  if (found === undefined) throw new Error(`the results hold no measurement of ${work} with one instance`);
  return found.cost;
}

/** A table as the formatter of the repository would write it, so that the page is the same before and after. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [head, ...rows];
  const widths = head.map((_, index) => Math.max(4, ...all.map((cells) => cells[index]?.length ?? 0)));
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const pad = (cells: readonly string[]) =>
    cells.map((cell, index) => (index === 0 ? cell.padEnd(widths[index] ?? 0) : cell.padStart(widths[index] ?? 0)));
  const rule = widths.map((width, index) => (index === 0 ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`));
  return [line(pad(head)), line(rule), ...rows.map((cells) => line(pad(cells)))].join('\n');
}

/** Three digits that say something, and no more. */
function show(value: number): string {
  if (value >= 100) return Math.round(Number(value.toPrecision(3))).toLocaleString('en');
  return value === 0 ? '0' : String(Number(value.toPrecision(2)));
}

/** The parts of the page that are made from the results, by name. */
export function renderParts(results: ScalingResults): Record<string, string> {
  const { machine, users, measurements, storageBytes, redisBytes } = results;
  const costs = measurements.map(({ work, instances, ratePerSecond, p99Ms, cost }) => [
    work,
    String(instances),
    show(ratePerSecond),
    show(p99Ms),
    show(cost.instanceCpuMs),
    show(cost.balancerCpuMs),
    show(cost.postgresCpuMs),
    show(cost.redisCpuMs),
    show(cost.generatorCpuMs),
    show(cost.transactions),
    show(cost.redisCommands),
    show(cost.walBytes),
  ]);
  const hot = results.hotShareOfRefreshes;
  return {
    measured: [
      `Measured on ${machine.cores} cores (${machine.processor}), Node ${machine.node}, PostgreSQL ${machine.postgres}, ` +
        `nginx ${machine.nginx}, with ${users.toLocaleString('en')} users. Times are milliseconds of processor time for each request.`,
      '',
      table(
        [
          'work',
          'instances',
          'a second',
          'p99, ms',
          'instance',
          'nginx',
          'PostgreSQL',
          'Redis',
          'generator',
          'transactions',
          'Redis commands',
          'WAL, bytes',
        ],
        costs,
      ),
      '',
      `PostgreSQL had ${results.connectionsToPostgres} connections of four instances. ` +
        `Of the updates of a refresh ${hot === undefined ? 'none were seen' : `${show(hot * 100)} % touched no index (HOT)`}.`,
    ].join('\n'),
    storage: table(
      ['what', 'bytes'],
      [
        ['a user with roles, in PostgreSQL with indexes', show(storageBytes.user)],
        ['a session', show(storageBytes.session)],
        ['a known device', show(storageBytes.device)],
        ['an audit event with its part of the seal', show(storageBytes.auditEvent)],
        ...Object.entries(redisBytes).map(([kind, { bytes }]) => [`a key \`${kind}\` in Redis`, show(bytes)]),
      ],
    ),
    model: renderModel(results),
  };
}

const needLabels: readonly (readonly [keyof Need, string])[] = [
  ['readsPerSecond', 'reads with a token, a second'],
  ['refreshesPerSecond', 'refreshes a second'],
  ['loginsPerSecond', 'logins a second'],
  ['instances', 'instances'],
  ['loopCores', 'cores for their event loops'],
  ['hashingCores', 'cores for logins'],
  ['balancerCores', 'cores of nginx'],
  ['postgresCores', 'cores of PostgreSQL'],
  ['transactionsPerSecond', 'transactions a second'],
  ['commitsPerSecond', 'of them commits that wait for the disk'],
  ['walMegabytesPerSecond', 'WAL, MB a second'],
  ['connections', 'connections to PostgreSQL'],
  ['redisCores', 'cores of Redis'],
  ['redisMegabytes', 'session cache in Redis, MB'],
  ['hotGigabytes', 'users, sessions and devices, GB'],
  ['auditGigabytes', 'audit events of a year, GB'],
];

function renderModel(results: ScalingResults): string {
  const needs = (['here alone', 'everywhere'] as const).flatMap((checking) =>
    userCounts.map((users) => reckon(results, users, checking)),
  );
  const short = (users: number) => `10${{ 1000000: '⁶', 10000000: '⁷', 100000000: '⁸' }[users as 1_000_000]}`;
  const head = ['at the busiest hour', ...needs.map(({ users, checking }) => `${short(users)}, ${checking}`)];
  const rows = needLabels.map(([key, label]) => [label, ...needs.map((need) => show(Number(need[key])))]);
  const habitsText = table(
    ['what users do', 'assumed'],
    [
      ['are active on a day', `${habits.activeShare * 100} %`],
      ['logins of an active user a day', String(habits.loginsPerActiveDay)],
      ['refreshes of an active user a day', String(habits.refreshesPerActiveDay)],
      ['reads here, where every API asks the service', String(habits.readsPerActiveDay.everywhere)],
      ['reads here, where other services verify by the JWKS', String(habits.readsPerActiveDay['here alone'])],
      ['the busiest hour, in averages', String(habits.peakFactor)],
      ['sessions and devices of a user', `${habits.sessionsPerUser} and ${habits.devicesPerUser}`],
      ['audit events of a login, kept for days', `${habits.eventsPerLogin}, ${habits.retentionDays}`],
      ['how busy a core may be', `${utilisation * 100} %`],
    ],
  );
  return `${habitsText}\n\n${table(head, rows)}`;
}

/** Puts the parts between their markers. Throws where a marker is missing. */
export function fillPage(text: string, parts: Readonly<Record<string, string>>): string {
  return Object.entries(parts).reduce((filled, [name, part]) => {
    const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
    const [from, to] = [filled.indexOf(begin), filled.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`the page has no ${begin} with ${end}`);
    return `${filled.slice(0, from + begin.length)}\n\n${part}\n\n${filled.slice(to)}`;
  }, text);
}

function main(): void {
  const { values, positionals } = parseArgs({ options: { write: { type: 'boolean' } }, allowPositionals: true });
  const results = JSON.parse(readFileSync(positionals[0] ?? defaultInput, 'utf8')) as ScalingResults;
  const parts = renderParts(results);
  if (values.write) writeFileSync(page, fillPage(readFileSync(page, 'utf8'), parts));
  else console.log(Object.values(parts).join('\n\n'));
}

if (import.meta.main) main();
