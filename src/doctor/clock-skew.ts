import { type Finding, ok, problem, warning } from './finding.ts';

const noticeableMs = 2_000;
const harmfulMs = 30_000;

/** Compares the clock of another machine with ours, as exactly as the question could be asked. */
export function checkClock(name: string, aheadMs: number, errorMs: number): Finding {
  const skewMs = Math.abs(aheadMs);
  const seconds = (skewMs / 1000).toFixed(1);
  if (skewMs <= noticeableMs + errorMs) {
    return ok(
      'clock',
      `The clocks of ${name} and of this machine are together within ${Math.ceil((skewMs + errorMs) / 100) / 10} s.`,
    );
  }
  const trouble = {
    what: `The clock of ${name} is ${seconds} s ${aheadMs > 0 ? 'ahead of' : 'behind'} this machine's.`,
    why: 'Instances whose clocks differ disagree on what has expired, and others refuse tokens from the future.',
    remedy: 'Keep all machines on one time with NTP (chrony or systemd-timesyncd), and see which of the two is wrong.',
  };
  return skewMs > harmfulMs ? problem('clock', trouble) : warning('clock', trouble);
}
