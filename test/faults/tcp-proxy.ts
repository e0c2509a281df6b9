import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** A network between a client and a server that a test can break. Existing and new connections fail apart. */
export type TcpProxy = {
  port: number;
  /** Ends every connection with a reset, on both sides. */
  cut(): void;
  /** Nothing is carried any more, in either direction; connections stay open, and new ones are taken and hang too. */
  hang(): void;
  /** Carries on, beginning with what has piled up. */
  resume(): void;
  /** Carries everything later by this time; 0 ends that. */
  delay(ms: number): void;
  /** Ends the server's direction of every connection in good order. */
  halfClose(): void;
  /** Takes no new connection until it is told to accept again. */
  refuse(): void;
  accept(): Promise<void>;
  /** Acts when a client sends the text for the next time: before it is carried, or when it has been. */
  onNext(text: string, when: 'before' | 'after', act: () => void): void;
  countConnections(): number;
  /** Ends every connection and stops. */
  close(): void;
};

type Trigger = { text: string; when: 'before' | 'after'; act: () => void };
type Pair = { client: Socket; server: Socket };

const maxConnections = 200;
const maxDelayMs = 60_000;

/** Starts a proxy on a free port of this machine, before a server on it. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  let isHanging = false;
  let delayMs = 0;
  let trigger: Trigger | undefined;
  let listener: Server | undefined;

  const sockets = () => [...pairs].flatMap(({ client, server }) => [client, server]);
  // Bytes that nobody reads pile up in the kernel, whose buffers are the limit.
  const hang = () => {
    isHanging = true;
    for (const socket of sockets()) socket.pause();
  };
  const cut = () => {
    for (const socket of sockets()) socket.resetAndDestroy();
  };

  function open(client: Socket): void {
    if (pairs.size >= maxConnections) {
      client.resetAndDestroy();
      return;
    }
    const pair = { client, server: connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true }) };
    pairs.add(pair);
    carry(client, pair.server, send);
    carry(pair.server, client, (chunk) => pass(client, chunk));
    for (const socket of [client, pair.server]) {
      socket.on('error', () => {});
      socket.on('close', () => {
        pairs.delete(pair);
        for (const other of [client, pair.server]) if (!other.destroyed && !isHanging) other.destroySoon();
      });
      if (isHanging) socket.pause();
    }

    function send(chunk: Buffer): void {
      const due = trigger !== undefined && chunk.includes(trigger.text) ? trigger : undefined;
      if (due !== undefined) trigger = undefined;
      if (due?.when !== 'before') pass(pair.server, chunk);
      due?.act();
      if (due?.when === 'before') hold(client, chunk);
    }
  }

  /** Gives back what is not to be carried yet; a connection that was cut has no use for it. */
  function hold(from: Socket, chunk: Buffer): void {
    if (!from.destroyed) from.unshift(chunk);
  }

  function pass(to: Socket, chunk: Buffer): void {
    if (delayMs === 0) to.write(chunk);
    else setTimeout(() => to.writable && to.write(chunk), delayMs);
  }

  function carry(from: Socket, to: Socket, forward: (chunk: Buffer) => void): void {
    from.on('data', (chunk: Buffer) => {
      forward(chunk);
      if (to.writableNeedDrain) from.pause();
    });
    to.on('drain', () => {
      if (!isHanging) from.resume();
    });
    from.on('end', () => setTimeout(() => to.end(), delayMs));
  }

  async function accept(port: number): Promise<number> {
    listener = createServer({ allowHalfOpen: true }, open).listen(port, '127.0.0.1');
    await once(listener, 'listening');
    return (listener.address() as AddressInfo).port;
  }

  // The listener's own close would wait for the connections, which are to go on.
  const refuse = () => {
    listener?.close();
    listener = undefined;
  };

  const port = await accept(0);
  return {
    port,
    cut,
    hang,
    resume() {
      isHanging = false;
      for (const socket of sockets()) socket.resume();
    },
    delay(ms) {
      delayMs = Math.min(ms, maxDelayMs);
    },
    halfClose() {
      for (const { client } of pairs) client.end();
    },
    refuse,
    async accept() {
      await accept(port);
    },
    onNext(text, when, act) {
      trigger = { text, when, act };
    },
    countConnections: () => pairs.size,
    close() {
      refuse();
      cut();
    },
  };
}
