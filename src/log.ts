import { type Logger, pino } from 'pino';

// Bodies and headers are never logged; these are the names under which a mistake could still do it.
const secretNames = [
  'authorization',
  'password',
  'current_password',
  'new_password',
  'access_token',
  'refresh_token',
  'verification_token',
  'SECRET_KEY',
  // Where an error of new URL() keeps the whole text.
  'input',
];

/**
 * Creates the log: JSON lines on standard output, or lines for people where that is a terminal. A command, whose output
 * is what was asked for, logs to standard error (2).
 */
export async function createLog(level: string, isTerminal: boolean, descriptor?: number): Promise<Logger> {
  const options = {
    level,
    redact: { paths: secretNames.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
    base: null,
  };
  if (!isTerminal) {
    return descriptor === undefined ? pino(options) : pino(options, pino.destination({ dest: descriptor, sync: true }));
  }
  // Loaded only here: a service that writes JSON need not carry it.
  const { default: pretty } = await import('pino-pretty');
  return pino(
    options,
    pretty({
      colorize: true,
      ignore: 'hostname,pid',
      translateTime: 'SYS:HH:MM:ss',
      singleLine: false,
      destination: descriptor ?? 1,
    }),
  );
}
