import { spawnSync } from 'node:child_process';

/** Runs promtool, which comes with Debian's package prometheus. */
export function runPromtool(
  args: readonly string[],
  options: { cwd?: string; input?: string },
): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8', ...options });
  return { status, output: `${stdout}${stderr}` };
}

/** Says why the rules cannot be checked here; false when they can. With REQUIRE_PROMTOOL, as in CI, never skips. */
export function reasonToSkipPromtool(): string | false {
  if (process.env.REQUIRE_PROMTOOL === '1') return false;
  return spawnSync('promtool', ['--version'], { stdio: 'ignore' }).status !== 0 && 'promtool is not installed';
}
