import type { DestinationStream } from 'pino';

// biome-ignore lint/suspicious/noExplicitAny: a test reads whatever the line holds and asserts on it.
export type LogLine = Record<string, any>;

/** A log in memory. */
export type CapturedLog = DestinationStream & {
  text(): string;
  lines(): LogLine[];
  /** The lines of requests alone. */
  requests(): LogLine[];
  clear(): void;
};

/** Creates a destination that keeps what is written to it. */
export function captureLog(): CapturedLog {
  let text = '';
  const lines = () =>
    text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as LogLine);
  return {
    write(chunk) {
      text += chunk;
    },
    text: () => text,
    lines,
    requests: () => lines().filter(({ msg }) => msg === 'request'),
    clear() {
      text = '';
    },
  };
}
