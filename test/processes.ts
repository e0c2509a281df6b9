import { existsSync, readdirSync, readFileSync } from 'node:fs';

const clockTicksPerSecond = 100;

/** Lists the processes that a process has started and that still run. */
export function listChildren(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number);
}

/** Sends a signal. A process that has ended meanwhile needs none. */
export function sendSignal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Reads the niceness of every thread of a process. */
export function listNiceness(pid: number): Map<number, number> {
  const threads = readdirSync(`/proc/${pid}/task`).flatMap((thread): [number, number][] => {
    const file = `/proc/${pid}/task/${thread}/stat`;
    // A thread may end while this list is read.
    return existsSync(file) ? [[Number(thread), readStat(file)(19)]] : [];
  });
  return new Map(threads);
}

/** Reads the processor time that all threads of a process have used so far. */
export function readCpuSeconds(pid: number): number {
  const field = readStat(`/proc/${pid}/stat`);
  return (field(14) + field(15)) / clockTicksPerSecond;
}

/** Reads what the children of a process used that have ended and that it has waited for. */
export function readCpuSecondsOfEndedChildren(pid: number): number {
  const field = readStat(`/proc/${pid}/stat`);
  return (field(16) + field(17)) / clockTicksPerSecond;
}

/** Finds the process that has started a process. */
export function readParent(pid: number): number {
  return readStat(`/proc/${pid}/stat`)(4);
}

/** Reads how much of a process is resident. */
export function readResidentMebibytes(pid: number): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kibibytes) / 1024;
}

/** Reads the fields of proc_pid_stat(5), by their numbers there. The second is a name in brackets, which may hold spaces. */
function readStat(file: string): (number: number) => number {
  const stat = readFileSync(file, 'utf8');
  const fieldsFromThird = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (number) => Number(fieldsFromThird[number - 3]);
}
