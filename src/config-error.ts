import { getSystemErrorMessage } from 'node:util';

/** Thrown at the start with everything that is wrong, so that it can be mended in one go. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`The configuration is not usable:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`);
    this.problems = problems;
  }
}

/** Says why a file could not be read or made, without its path. */
export function describeFileError(error: unknown): string {
  const { code, errno } = error as NodeJS.ErrnoException;
  return errno === undefined ? (code ?? 'unknown error') : `${code} (${getSystemErrorMessage(errno)})`;
}
