import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { CommandFailedError } from './command-failed.ts';
import { exitCodes } from './exit-codes.ts';

/** Whether there is somebody to ask. Questions go to standard error, so that standard output stays what was asked for. */
export function isInteractive(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true;
}

/** Asks for a line. With `isHidden` nothing of what is typed is shown. */
export async function ask(question: string, { isHidden = false } = {}): Promise<string> {
  // In terminal mode it is readline that shows what is typed, so what it writes is what is kept back.
  const output = isHidden ? new Writable({ write: (_chunk, _encoding, done) => done() }) : process.stderr;
  const reader = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 });
  // Only now: the terminal itself would show what is typed before readline has taken it over. The last line is the
  // prompt, which readline shows and draws anew; where it may show nothing, all of it is written here.
  const promptAt = isHidden ? question.length : question.lastIndexOf('\n') + 1;
  process.stderr.write(question.slice(0, promptAt));
  reader.setPrompt(question.slice(promptAt));
  try {
    return await new Promise<string>((resolve, reject) => {
      const leave = () =>
        reject(new CommandFailedError('Interrupted: nothing was done.', { exitCode: exitCodes.interrupted }));
      reader.once('line', resolve).once('SIGINT', leave).once('close', leave);
      reader.prompt();
    });
  } finally {
    reader.close();
    // A hidden line ends without the line break that was typed.
    if (isHidden) process.stderr.write('\n');
  }
}

/** What is to be confirmed: what would happen, and the word that stands for having read it. */
type Confirmation = { consequence: string; word: string; yes: boolean | undefined };

/** Lets go on only who has said so: with --yes, or by typing the word. Without a terminal nobody can be asked. */
export async function requireConfirmation({ consequence, word, yes }: Confirmation): Promise<void> {
  if (yes === true) return;
  if (!isInteractive()) {
    throw new CommandFailedError(
      `${consequence}\nNothing was done: there is no terminal to ask on. Add --yes to do it without being asked.`,
      { exitCode: exitCodes.declined },
    );
  }
  const answer = await ask(`${consequence}\nType ${word} to go on: `);
  if (answer.trim() !== word) throw new CommandFailedError('Nothing was done.', { exitCode: exitCodes.declined });
}

const maxInputBytes = 4096;

/** Reads what was piped in, as a whole and without its final line break. */
export async function readStandardInput(what: string): Promise<string> {
  if (process.stdin.isTTY)
    throw new CommandFailedError(`${what} is read from standard input, which is a terminal here.`);
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxInputBytes) throw new CommandFailedError(`${what} is longer than ${maxInputBytes} bytes.`);
    chunks.push(chunk);
  }
  const text = decode(Buffer.concat(chunks), what).replace(/\r?\n$/, '');
  if (text === '') throw new CommandFailedError(`${what} is empty.`);
  return text;
}

function decode(bytes: Buffer, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new CommandFailedError(`${what} is not UTF-8.`);
  }
}
