import assert from 'node:assert/strict';
import type { Finding, FindingState } from '../src/doctor/finding.ts';
import { diagnose } from '../src/doctor/flow.ts';

type Options = Partial<Parameters<typeof diagnose>[1]>;

/** What a look at an installation found, and ways to ask for one check of it. */
type Look = {
  findings: Finding[];
  problems: Finding[];
  /** Problems and warnings. */
  troubles: Finding[];
  /** The finding of a check: the worst where there are several. */
  get(check: string): Finding;
  state(check: string): FindingState;
};

const order: readonly FindingState[] = ['problem', 'warning', 'ok', 'skipped'];

/** Looks at the installation of an environment, and shows that every trouble comes with its reason and remedy. */
export async function findingsOf(environment: Record<string, string>, options: Options = {}): Promise<Look> {
  const runtime = { version: process.version, oldest: '24.16' };
  const findings = await diagnose(environment, { isProbing: false, nowMs: Date.now(), runtime, ...options });
  const troubles = findings.filter(({ state }) => state === 'problem' || state === 'warning');
  for (const { what, why, remedy } of troubles) assert.ok(what && why && remedy, `${what}: why, and what to do?`);
  for (const { what } of findings) assert.match(what, /\.$/, 'a sentence');
  const get = (check: string) => {
    const found = findings.filter((finding) => finding.check === check);
    const [worst] = found.sort((one, other) => order.indexOf(one.state) - order.indexOf(other.state));
    assert.ok(worst, `nothing was found of ${check} among ${findings.map((finding) => finding.check).join(', ')}`);
    return worst;
  };
  return {
    findings,
    problems: findings.filter(({ state }) => state === 'problem'),
    troubles,
    get,
    state: (check) => get(check).state,
  };
}
