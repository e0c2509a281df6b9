import { ErrorReply } from '@redis/client';
import type { RedisAddress, RedisCredentials } from '../redis-url.ts';
import { adviseOn } from './redis-advice.ts';
import { createServerClock } from './redis-clock.ts';
import { openLink, type RedisClient, type RedisLink } from './redis-link.ts';

const beatEveryMs = 1_000;

/** A server that keeps data. */
export type RedisNode = RedisLink & {
  /** Whether it is a master by its own word. */
  readonly isMaster: boolean;
  /** A moment of this process's clock on the server's, as a script takes it; empty when the server tells no time. */
  deadlineAt(localMs: number): string;
};

/** How every server of one REDIS_URL is spoken to, and who hears of it. */
export type NodeSettings = {
  isEncrypted: boolean;
  credentials: RedisCredentials;
  database?: number;
  onError: (error: Error) => void;
  onWarning: (text: string) => void;
};

/** Connects to a server that keeps data. */
export function openNode(address: RedisAddress, settings: NodeSettings): RedisNode {
  const clock = createServerClock();
  let isMaster = false;

  async function beat(client: RedisClient, isFirst: boolean): Promise<undefined> {
    if (isFirst) {
      clock.forget();
      isMaster = false;
    }
    const [time, hello] = await Promise.all([
      unlessRefused(client.sendCommand<[string, string]>(['TIME'])),
      unlessRefused(client.sendCommand<{ role?: string }>(['HELLO'])),
    ]);
    if (time !== undefined) clock.note(Number(time[0]), Number(time[1]));
    const wasMaster = isMaster;
    // A server that does not say is taken for what it was named as.
    isMaster = hello?.role === undefined || hello.role === 'master';
    // Not awaited: nothing waits for advice.
    if (isMaster && !wasMaster) adviseOn(client, address).then((warnings) => warnings.forEach(settings.onWarning));
  }

  const link = openLink({ ...settings, address, title: 'Redis', beat, beatEveryMs });
  return {
    address,
    client: link.client,
    get isReady() {
      return link.isReady;
    },
    get isMaster() {
      return isMaster;
    },
    deadlineAt(localMs) {
      const serverMs = clock.at(localMs);
      return serverMs === undefined ? '' : String(Math.floor(serverMs));
    },
    close: () => link.close(),
  };
}

/** Some services forbid a command; that is no fault of the connection. */
async function unlessRefused<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ErrorReply) return undefined;
    throw error;
  }
}
