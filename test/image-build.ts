import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  constants,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { readIgnore, readStages, type Stage, type Step } from './dockerfile.ts';

/** What a build leaves: a folder in the place of the root of the file system, and how a container is started in it. */
export type Image = {
  root: string;
  environment: Record<string, string>;
  workingFolder: string;
  user: string;
  command: readonly string[];
  healthCheck: readonly string[];
  port: number;
};

type Draft = Omit<Image, 'root'>;
type Build = { context: string; folder: string; root: string; stages: Map<string, { root: string; draft: Draft }> };

const isRoot = process.getuid?.() === 0;
// The folders that the Dockerfile knows, where they stand alone or begin a path.
const imagePath = /(?<![\w.-])\/(?:app|data)(?=[/\s:"]|$)/g;

/**
 * Does what a Dockerfile says, as plain commands in an empty folder: each instruction that it uses is carried out, and
 * any other is refused, so that the file cannot say what this leaves out. The base image is the Node.js that runs this.
 */
export function buildImage(context: string, folder: string): Image {
  const build: Build = { context, folder, root: join(folder, 'root'), stages: new Map() };
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  // Anybody may traverse the way to it, which the folders of whoever runs the tests need not allow.
  chmodSync(folder, 0o755);
  copyFileSync(process.execPath, join(bin, 'node'), constants.COPYFILE_FICLONE);
  const stages = readStages(readFileSync(join(context, 'Dockerfile'), 'utf8'));
  for (const [index, stage] of stages.entries()) {
    const draft = buildStage(build, stage);
    if (index === stages.length - 1) return { ...draft, root: build.root };
    const kept = join(folder, `stage-${stage.name}`);
    renameSync(build.root, kept);
    build.stages.set(stage.name, { root: kept, draft });
  }
  throw new Error('the Dockerfile has no stage');
}

function buildStage(build: Build, { base, steps }: Stage): Draft {
  const parent = build.stages.get(base);
  mkdirSync(build.root);
  if (parent !== undefined) copyTree(`${parent.root}/.`, build.root);
  else assert.match(base, /^node:/, 'the base image is no Node.js');
  const draft: Draft = structuredClone(parent?.draft) ?? {
    environment: { PATH: `${join(build.folder, 'bin')}:/usr/local/bin:/usr/bin:/bin` },
    workingFolder: '/',
    user: 'root',
    command: [],
    healthCheck: [],
    port: 0,
  };
  for (const step of steps) carryOut(build, draft, step);
  return draft;
}

function carryOut(build: Build, draft: Draft, step: Step): void {
  const { keyword, words, text, exec, flags } = step;
  switch (keyword) {
    case 'WORKDIR':
      draft.workingFolder = text;
      mkdirSync(inRoot(build, text), { recursive: true });
      break;
    case 'ENV': {
      const [, name = '', value = ''] = /^(\w+)=(\S*)$/.exec(text) ?? [];
      draft.environment[name] = mapPaths(build, value).replaceAll(
        /\$(\w+)/g,
        (_, other) => draft.environment[other] ?? '',
      );
      break;
    }
    case 'COPY':
      copy(build, draft, words, flags);
      break;
    case 'RUN':
      runAs(
        draft.user,
        ['bash', '-euo', 'pipefail', '-c', mapPaths(build, isRoot ? text : `chown() { :; }; ${text}`)],
        {
          cwd: inRoot(build, draft.workingFolder),
          env: { ...environmentOfNpm(), ...draft.environment },
        },
      );
      break;
    case 'USER':
      draft.user = text;
      break;
    case 'EXPOSE':
      draft.port = Number(text);
      break;
    case 'HEALTHCHECK':
      draft.healthCheck = exec ?? [];
      break;
    case 'ENTRYPOINT':
      assert.deepEqual(exec, [], 'an entry point is not carried out here');
      break;
    case 'CMD':
      draft.command = exec ?? [];
      break;
    case 'ARG':
    case 'LABEL':
    case 'VOLUME':
    case 'STOPSIGNAL':
      break;
    default:
      throw new Error(`${keyword} is not carried out here`);
  }
}

function copy(build: Build, draft: Draft, words: readonly string[], flags: Step['flags']): void {
  const [sources, target = ''] = [words.slice(0, -1), words.at(-1)];
  const destination = inRoot(build, target.startsWith('/') ? target : join(draft.workingFolder, target));
  const from = flags.get('from');
  if (from !== undefined) {
    const stage = build.stages.get(from);
    assert.ok(stage, `there is no stage ${from}`);
    mkdirSync(destination, { recursive: true });
    for (const source of sources) copyTree(`${join(stage.root, source)}/.`, destination);
  } else {
    for (const source of sources)
      copyFromContext(build.context, source, target.endsWith('./') ? join(destination, source) : destination);
  }
  const owner = flags.get('chown');
  if (owner !== undefined && isRoot) execFileSync('chown', ['-R', owner, destination]);
}

/** Copies what .dockerignore lets into the context. */
export function copyFromContext(context: string, source: string, destination: string): void {
  const isIgnored = readIgnore(readFileSync(join(context, '.dockerignore'), 'utf8'));
  const path = join(context, source);
  assert.ok(existsSync(path) && !isIgnored(source), `the context has no ${source}`);
  mkdirSync(dirname(destination), { recursive: true });
  cpSync(path, destination, { recursive: true, filter: (from) => !isIgnored(relative(context, from)) });
}

/** As COPY does: modes stay, and all belongs to root. */
function copyTree(from: string, to: string): void {
  execFileSync('cp', ['-dR', '--preserve=mode,timestamps,links', from, to]);
}

type Surroundings = { cwd: string; env: Record<string, string> };

/** The words that run a command as another user, where we may. */
export function asUser(user: string): readonly string[] {
  const [uid = '', gid = uid] = user.split(':');
  return !isRoot || user === 'root' ? [] : ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
}

function runAs(user: string, command: readonly string[], { cwd, env }: Surroundings): void {
  const [program = '', ...rest] = [...asUser(user), ...command];
  execFileSync(program, rest, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
}

function inRoot(build: Build, path: string): string {
  return join(build.root, path);
}

function mapPaths(build: Build, text: string): string {
  return text.replaceAll(imagePath, (path) => inRoot(build, path));
}

/** Where npm finds its registry and its cache. What else npm sets for the scripts that it runs would only confuse it. */
function environmentOfNpm(): Record<string, string> {
  const ways = Object.entries(process.env).flatMap(([name, value]) =>
    value !== undefined &&
    /^(?:HOME|npm_config_(?:registry|cache|cafile)|NODE_EXTRA_CA_CERTS|https?_proxy)$/i.test(name)
      ? [[name, value] as const]
      : [],
  );
  return { ...Object.fromEntries(ways), npm_config_prefer_offline: 'true' };
}

/** Every file below a folder, in order. */
export function listFiles(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .toSorted();
}
