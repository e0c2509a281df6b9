/** What is logged of an error. */
export type LoggedError = {
  type: string;
  message: string;
  code?: string | number;
  stack: string;
  cause?: LoggedError;
  errors?: LoggedError[];
};

const maxMessageLength = 500;
const maxFrames = 12;
const maxDepth = 4;
const maxErrors = 5;
const codePattern = /^\w{1,60}$/;
// PostgreSQL's class 22 is about data, and quotes it.
const dataSqlState = /^22...$/;

/**
 * Cuts an error to what says where and why: its type, message, code and stack, and those of its causes. What else hangs
 * on it stays out (PostgreSQL's `detail` holds whole rows, other errors the command or the URL), and so does what its
 * message repeats of a value.
 */
export function describeError(thrown: unknown, depth = 0): LoggedError {
  // Whatever was thrown that is no error could be anything, a body too.
  if (!(thrown instanceof Error)) return { type: typeof thrown, message: 'what was thrown is no error', stack: '' };
  const { code, cause } = thrown as Error & { code?: unknown };
  const inner = thrown instanceof AggregateError ? thrown.errors : [];
  const isDeeper = depth < maxDepth;
  const type = thrown.constructor.name || 'Error';
  const message = withoutValues(thrown);
  return {
    type,
    message,
    ...(isCode(code) ? { code } : {}),
    stack: [`${type}: ${message}`, ...framesOf(thrown)].join('\n'),
    ...(cause instanceof Error && isDeeper ? { cause: describeError(cause, depth + 1) } : {}),
    ...(inner.length > 0 && isDeeper
      ? { errors: inner.slice(0, maxErrors).map((error: unknown) => describeError(error, depth + 1)) }
      : {}),
  };
}

function isCode(code: unknown): code is string | number {
  return typeof code === 'number' || (typeof code === 'string' && codePattern.test(code));
}

function withoutValues(error: Error): string {
  const { code } = error as Error & { code?: unknown };
  const quotesData = error instanceof SyntaxError || (typeof code === 'string' && dataSqlState.test(code));
  // Cut from the first quotation mark to the last: what is quoted may hold quotation marks of its own.
  const message = quotesData ? error.message.replace(/["'`](?:[\s\S]*["'`]|[\s\S]*$)/, '…') : error.message;
  return (
    message
      // So Redis answers a command that it does not know, be it AUTH.
      .replace(/,? with args beginning with:[\s\S]*$/, '')
      .replaceAll(/\/\/[^\s/@]*@/g, '//[redacted]@')
      .slice(0, maxMessageLength)
  );
}

/** The places alone: a stack begins with the message as it was. */
function framesOf({ stack = '' }: Error): string[] {
  const frames = stack
    .split('\n')
    .filter((line) => /^ {4}at \S/.test(line) && /(?::\d+:\d+\)?|\(<anonymous>\))$/.test(line));
  return frames.slice(0, maxFrames);
}
