import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { SMTPServer } from 'smtp-server';

/** A mail that arrived, as far as this suite tells mails apart. */
type Letter = { to: string; subject: string };

/** A mail server that outlives the program under test. */
export type PostOffice = {
  url: string;
  letters: Letter[];
  /** Waits for a code; undefined when the wait is broken off before one arrives, or the office closed. */
  findCode(to: string, isOver: () => boolean): Promise<string | undefined>;
  /** Ends every connection and takes no more until it is opened again. */
  close(): Promise<void>;
  open(): Promise<void>;
};

const codePattern = /^([0-9A-Z]{6}) (?=is your code )/;

/** Opens a mail server that accepts everything. */
export async function openPostOffice(): Promise<PostOffice> {
  const letters: Letter[] = [];
  // By address; each gets one code at most here.
  const codes = new Map<string, string>();
  const take = (letter: Letter) => {
    letters.push(letter);
    const code = codePattern.exec(letter.subject)?.[1];
    if (code !== undefined) codes.set(letter.to, code);
  };
  let server = await listen(take, 0);
  let isOpen = true;
  const { port } = server.server.address() as AddressInfo;
  return {
    url: `smtp://127.0.0.1:${port}`,
    letters,
    async findCode(to, isOver) {
      while (isOpen && !isOver()) {
        const code = codes.get(to);
        if (code !== undefined) return code;
        await sleep(5);
      }
      return undefined;
    },
    async close() {
      isOpen = false;
      await new Promise<void>((resolve) => server.close(resolve));
    },
    async open() {
      server = await listen(take, port);
      isOpen = true;
    },
  };
}

async function listen(take: (letter: Letter) => void, port: number): Promise<SMTPServer> {
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    disableReverseLookup: true,
    closeTimeout: 1,
    onData(stream, { envelope }, done) {
      let data = '';
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        data += chunk;
      });
      stream.on('end', () => {
        const subject = /^Subject: (.*)$/m.exec(data)?.[1]?.trim() ?? '';
        for (const { address } of envelope.rcptTo) take({ to: address, subject });
        done();
      });
    },
  });
  // A client that is killed resets its connections.
  server.on('error', () => {});
  server.listen(port, '127.0.0.1');
  await once(server.server, 'listening');
  return server;
}

/** What a mail is about: its subject without the code. */
export function topicOf(subject: string): string {
  return subject.replace(codePattern, '');
}
