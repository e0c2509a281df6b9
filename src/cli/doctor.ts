import { styleText } from 'node:util';
import type { Command } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { systemClock } from '../clock.ts';
import type { Finding, FindingState } from '../doctor/finding.ts';
import { exitCodes } from './exit-codes.ts';
import { printable } from './output.ts';

type Options = { json?: true; probe?: true };

const explanation = `
It looks at the configuration, the secret, the database, Redis, the mail server,
clocks, keys and addresses, and says of everything that is wrong why it matters
and what to do. It changes nothing, sends no mail and asks nobody but the
servers that the configuration names. Passwords and secrets are never shown.

It ends with 1 when there is a problem; warnings alone end with 0.

Examples:
  latchkey doctor
  latchkey doctor --json | jq '.findings[] | select(.state == "problem")'`;

const colours = { ok: 'green', warning: 'yellow', problem: 'red', skipped: 'gray' } as const;
const titles: Record<FindingState, string> = { ok: 'ok', warning: 'warning', problem: 'PROBLEM', skipped: 'skipped' };
const indent = ' '.repeat(9);

/** Adds `doctor`, which looks for what is wrong with an installation. */
export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .summary('look for what is wrong, and say what to do')
    .description('Looks for what is wrong with an installation, and says why it matters and what to do.')
    .option('--probe', 'ask PUBLIC_URL also where it is another machine')
    .option('--json', 'print the findings as JSON')
    .addHelpText('after', explanation)
    .action(async ({ json, probe }: Options) => {
      const nowMs = systemClock.now();
      const runtime = { version: process.version, oldest: packageJson.engines.node.replace('>=', '') };
      // Loaded only here, for it knows every library of every server.
      const { diagnose } = await import('../doctor/flow.ts');
      const findings = await diagnose(process.env, { isProbing: probe === true, nowMs, runtime });
      const hasProblem = findings.some(({ state }) => state === 'problem');
      console.log(json ? JSON.stringify({ healthy: !hasProblem, findings }, null, 2) : renderFindings(findings));
      if (hasProblem) process.exitCode = exitCodes.failed;
    });
}

function renderFindings(findings: readonly Finding[]): string {
  const count = (state: FindingState) => findings.filter((finding) => finding.state === state).length;
  const summary = `${plural(count('problem'), 'problem')}, ${plural(count('warning'), 'warning')}, ${count('ok')} ok.`;
  return [...findings.map(renderFinding), '', summary].join('\n');
}

function renderFinding({ state, what, why, remedy }: Finding): string {
  const title = styleText(colours[state], titles[state].padEnd(indent.length), { stream: process.stdout });
  const more = [why === undefined ? [] : [`Why: ${why}`], remedy === undefined ? [] : [`Do:  ${remedy}`]].flat();
  return [title + printable(what), ...more.map((line) => indent + printable(line))].join('\n');
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
