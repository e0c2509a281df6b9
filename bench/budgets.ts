import type { Budget, Results, WorkName, WorkResult } from './results.ts';

type Measured = Pick<Results, 'works' | 'starts'>;
/** A work that must reach a part of the rate of another one of the same run. */
type Ratio = { name: string; work: WorkName; against: WorkName; bound: number };

/** What is promised of works, as ratios of rates that were measured side by side. */
export const promisedRatios: readonly Ratio[] = [
  { name: 'GET /users/me against a bare route', work: 'me', against: 'bare', bound: 0.5 },
  { name: 'POST /auth/refresh against a bare route', work: 'refresh', against: 'bare', bound: 0.2 },
  { name: 'POST /auth/login against the hash alone', work: 'login', against: 'hash', bound: 0.95 },
  {
    name: 'GET /users/me during a login storm against without',
    work: 'me_in_storm',
    against: 'me_before_storm',
    bound: 0.5,
  },
];
const scaledWorks = {
  me: 'GET /users/me',
  refresh: 'POST /auth/refresh',
  login: 'POST /auth/login',
  me_in_storm: 'GET /users/me during a login storm',
} as const;
const scaledBound = 0.8;
/** What is promised of a start: less than this. */
export const startBounds = { readyMs: 700, idleMegabytes: 130 };

/** Judges what was measured. A budget of which a side was not measured is left out. */
export function judge({ works, starts }: Measured): Budget[] {
  const own = works.filter(({ server, users }) => server === 'latchkey' || users === null);
  const sizes = [...new Set(own.flatMap(({ users }) => users ?? []))].sort((a, b) => a - b);
  const [smallest] = sizes;
  const find = (work: WorkName, users: number | undefined) =>
    own.find((one) => one.work === work && (one.users === null || one.users === users));
  const againstReference = promisedRatios.flatMap(({ name, work, against, bound }) =>
    compare(name, find(work, smallest), find(against, smallest), bound),
  );
  const againstSmallest = sizes.slice(1).flatMap((users) =>
    Object.entries(scaledWorks).flatMap(([work, name]) => {
      const title = `${name}: ${format(users)} users against ${format(smallest ?? 0)}`;
      return compare(title, find(work as WorkName, users), find(work as WorkName, smallest), scaledBound);
    }),
  );
  return [...againstReference, ...againstSmallest, ...judgeStarts(starts)];
}

function compare(name: string, one: WorkResult | undefined, other: WorkResult | undefined, bound: number): Budget[] {
  if (one === undefined || other === undefined) return [];
  const measured = one.ratePerSecond.median / other.ratePerSecond.median;
  return [{ name, bound, measured, unit: 'ratio', isMet: measured >= bound }];
}

function judgeStarts(starts: Measured['starts']): Budget[] {
  return starts
    .filter(({ server, name }) => server === 'latchkey' && name === 'as it comes')
    .flatMap(({ users, readyMs, idleMegabytes }): Budget[] => {
      const among = `, ${format(users ?? 0)} users`;
      const megabytes = idleMegabytes.median;
      return [
        {
          name: `start to ready${among}`,
          bound: startBounds.readyMs,
          measured: readyMs.median,
          unit: 'ms',
          isMet: readyMs.median < startBounds.readyMs,
        },
        {
          name: `idle memory${among}`,
          bound: startBounds.idleMegabytes,
          measured: megabytes,
          unit: 'MB',
          isMet: megabytes < startBounds.idleMegabytes,
        },
      ];
    });
}

function format(count: number): string {
  return count.toLocaleString('en');
}
