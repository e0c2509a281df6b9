import { type DestinationStream, type Logger, type LoggerOptions, pino } from 'pino';
import { describeError } from './log-error.ts';

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
  'METRICS_TOKEN',
  'DATABASE_URL',
  'REDIS_URL',
  'SMTP_URL',
  // Where an error of new URL() keeps the whole text.
  'input',
];

/** Creates the log: JSON lines on standard output, or lines for people where that is a terminal. */
export async function createLog(level: string, isTerminal: boolean, destination?: DestinationStream): Promise<Logger> {
  const options: LoggerOptions = {
    level,
    redact: {
      paths: secretNames.flatMap((name) => [name, `*.${name}`]),
      censor: '[redacted]',
    },
    // An error carries whatever its maker hung on it: parameters of a query, a URL with its password, a whole row.
    serializers: { err: describeError, error: describeError },
    base: null,
  };
  if (destination !== undefined) return pino(options, destination);
  if (!isTerminal) return pino(options);
  // Loaded only here: a service that writes JSON need not carry it.
  const { default: pretty } = await import('pino-pretty');
  return pino(
    options,
    pretty({
      colorize: true,
      ignore: 'hostname,pid',
      translateTime: 'SYS:HH:MM:ss',
      singleLine: false,
    }),
  );
}

/** Creates the log of a command: what should worry its operator, in words, and nothing else. */
export function createCommandLog(onWarning: (words: string) => void): Logger {
  return pino(
    { level: 'warn', base: null },
    {
      write(line) {
        const { msg, err } = JSON.parse(line) as { msg?: string; err?: { message?: string } };
        onWarning([msg, err?.message].filter((part) => part !== undefined).join(': '));
      },
    },
  );
}
