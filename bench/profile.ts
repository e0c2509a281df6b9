import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { measureLoad } from './load.ts';
import type { BenchOptions, Part } from './options.ts';
import type { ProfileResult } from './results.ts';
import type { Subject, Traffic } from './subject.ts';

/** What `--cpu-prof` writes, as far as it is read here. Times are in microseconds. */
type CpuProfile = {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
  endTime: number;
  startTime: number;
};

const loadMs = 6_000;
// Compilers and caches have settled by then.
const unprofiledMs = 2_000;
const functionsShown = 15;
const root = join(import.meta.dirname, '..');

/** Does each work alone with the program under Node's profiler, and says where its event loop spent the time. */
export async function profileWorks(
  subject: Subject,
  { parts, connections }: BenchOptions,
  folder: string,
): Promise<ProfileResult[]> {
  const traffics: Partial<Record<Part, Traffic | undefined>> = {
    me: subject.read,
    refresh: subject.refresh,
    login: subject.login,
  };
  const results: ProfileResult[] = [];
  for (const [work, traffic] of Object.entries(traffics) as [ProfileResult['work'], Traffic | undefined][]) {
    if (!parts.has(work) || traffic === undefined) continue;
    const into = join(folder, work);
    mkdirSync(into, { recursive: true });
    const program = await subject.restart({ nodeFlags: ['--cpu-prof', `--cpu-prof-dir=${into}`] });
    try {
      const load = { ...traffic, origin: program.origin, connections };
      await measureLoad({ ...load, durationMs: loadMs });
    } finally {
      await program.stop();
    }
    results.push({ work, ...summariseProfile(readProfile(into), loadMs - unprofiledMs) });
  }
  return results;
}

/** Of several threads that were profiled, the event loop's is the one that began first. */
function readProfile(folder: string): CpuProfile {
  const profiles = readdirSync(folder)
    .filter((name) => name.endsWith('.cpuprofile'))
    .map((name): CpuProfile => JSON.parse(readFileSync(join(folder, name), 'utf8')));
  const [first] = profiles.sort((one, other) => one.startTime - other.startTime);
  if (first === undefined) throw new Error(`Node has written no profile to ${folder}`);
  return first;
}

/** Adds up the time at the end of a profile by function and by whose code it is; the stop takes next to none of it. */
export function summariseProfile(profile: CpuProfile, lastMs: number): Pick<ProfileResult, 'functions' | 'owners'> {
  const frames = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]));
  const [byFunction, byOwner] = [new Map<string, number>(), new Map<string, number>()];
  const add = (map: Map<string, number>, key: string, time: number) => map.set(key, (map.get(key) ?? 0) + time);
  let busy = 0;
  let at = profile.startTime;
  for (const [index, sample] of profile.samples.entries()) {
    const time = profile.timeDeltas[index] ?? 0;
    at += time;
    const frame = frames.get(sample);
    if (frame === undefined || at < profile.endTime - lastMs * 1_000 || frame.functionName === '(idle)') continue;
    busy += time;
    const owner = ownerOf(frame.url, frame.functionName);
    add(byOwner, owner, time);
    add(byFunction, `${frame.functionName || '(anonymous)'} ${placeOf(frame.url, frame.lineNumber)}`.trim(), time);
  }
  const shares = (map: ReadonlyMap<string, number>) =>
    [...map]
      .sort(([, one], [, other]) => other - one)
      .slice(0, functionsShown)
      .map(([name, time]) => ({ name, share: time / busy }));
  return { functions: shares(byFunction), owners: shares(byOwner) };
}

function ownerOf(url: string, functionName: string): string {
  if (url.startsWith('node:')) return 'Node';
  if (url === '') return functionName === '(garbage collector)' ? 'garbage collection' : 'native code';
  const path = pathOf(url);
  const dependency = /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1];
  return dependency ?? path.split('/').slice(0, 2).join('/');
}

function placeOf(url: string, lineNumber: number): string {
  if (url === '') return '';
  return `${url.startsWith('node:') ? url : pathOf(url).replace(/^.*node_modules\//, '')}:${lineNumber + 1}`;
}

function pathOf(url: string): string {
  return url.startsWith('file:') ? relative(root, fileURLToPath(url)) : url;
}
