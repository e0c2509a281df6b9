import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** The steps of a delivery: `greeting` comes first, `message` after the last line of the text. */
export type SmtpStep = 'greeting' | 'EHLO' | 'HELO' | 'AUTH' | 'MAIL' | 'RCPT' | 'DATA' | 'message';

/** What is done at a step: a reply, none at all, or the end of the connection. */
export type SmtpAct = string | { act: 'hang' | 'cut' } | { act: 'trickle'; everyMs: number };

/** A mail server that does what a real one does only on its worst days. */
export type ScriptedMailServer = {
  port: number;
  url: string;
  /** The steps reached so far, over all connections. */
  steps: SmtpStep[];
  stop(): void;
};

const usual: Record<SmtpStep, string> = {
  greeting: '220 ready',
  EHLO: '250-hello\r\n250-AUTH PLAIN\r\n250 PIPELINING',
  HELO: '250 hello',
  AUTH: '235 welcome',
  MAIL: '250 sender',
  RCPT: '250 recipient',
  DATA: '354 go on',
  message: '250 taken',
};

/** Starts a server that accepts everything but what the script says, at every time or by how often it was reached. */
export async function startScriptedMailServer(
  script: Partial<Record<SmtpStep, SmtpAct | ((times: number) => SmtpAct | undefined)>>,
): Promise<ScriptedMailServer> {
  const steps: SmtpStep[] = [];
  const sockets = new Set<Socket>();

  async function act(socket: Socket, step: SmtpStep, times: number): Promise<boolean> {
    steps.push(step);
    const scripted = script[step];
    const what = (typeof scripted === 'function' ? scripted(times) : scripted) ?? usual[step];
    if (typeof what === 'string') return socket.write(`${what}\r\n`);
    if (what.act === 'cut') socket.destroy();
    if (what.act === 'hang') await new Promise((resolve) => socket.once('close', resolve));
    if (what.act !== 'trickle') return false;
    // Something always comes, and the reply never ends.
    while (!socket.destroyed) {
      socket.write('2');
      await sleep(what.everyMs);
    }
    return false;
  }

  async function serve(socket: Socket): Promise<void> {
    let isMessage = false;
    // How often a step was reached on this connection.
    const counts = new Map<SmtpStep, number>();
    const reach = (step: SmtpStep) => {
      const times = (counts.get(step) ?? 0) + 1;
      counts.set(step, times);
      return act(socket, step, times);
    };
    if (!(await reach('greeting'))) return;
    for await (const line of lines(socket)) {
      const verb = line.slice(0, 4).toUpperCase();
      if (isMessage) {
        if (line !== '.') continue;
        isMessage = false;
        if (!(await reach('message'))) return;
      } else if (verb === 'QUIT') {
        socket.end('221 bye\r\n');
      } else if (verb in usual) {
        if (!(await reach(verb as SmtpStep))) return;
        isMessage = verb === 'DATA' && /^3/.test(String(script.DATA ?? usual.DATA));
      } else {
        socket.write('250 fine\r\n');
      }
    }
  }

  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => {});
    serve(socket).catch(() => {});
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `smtp://127.0.0.1:${port}`,
    steps,
    stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

async function* lines(socket: Socket): AsyncGenerator<string> {
  let rest = '';
  for await (const bytes of socket) {
    const parts = (rest + bytes).split('\r\n');
    rest = parts.pop() ?? '';
    yield* parts;
  }
}
