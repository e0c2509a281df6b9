import { spawnSync } from 'node:child_process';

/** Which system calls fail, and when: of the calls on these files the first, the last where there is one, and how many apart. */
type FailingCalls = {
  calls: 'fsync,fdatasync' | 'pwrite64';
  error: 'EIO' | 'ENOSPC';
  files: readonly string[];
  first: number;
  last?: number;
  step?: number;
};

/** The command that runs a program whose system calls fail. */
export function failCalls({ calls, error, files, first, last, step }: FailingCalls): string[] {
  const when = `${first}${last === undefined ? '' : `..${last}`}+${step ?? 1}`;
  const paths = files.flatMap((file) => ['-P', file]);
  return [...strace, ...paths, '-e', `trace=${calls}`, '-e', `inject=${calls}:error=${error}:when=${when}`, '--'];
}

// The filter in the kernel stops the program at the named calls alone; without it every call would take many times as long.
const strace = ['strace', '-f', '--seccomp-bpf', '-qq', '-o', '/dev/null'];

/** Says why no system call can be made to fail here; false when one can. With REQUIRE_STRACE, as in CI, never skips. */
export function reasonToSkipStrace(): string | false {
  if (process.env.REQUIRE_STRACE === '1') return false;
  const [command = '', ...args] = failCalls({
    calls: 'pwrite64',
    error: 'EIO',
    files: ['/dev/null'],
    first: 1,
    last: 2,
  });
  const { error, status } = spawnSync(command, [...args, process.execPath, '--version'], { stdio: 'ignore' });
  if (error !== undefined) return 'strace is not installed';
  return status !== 0 && 'strace may not trace processes here';
}
