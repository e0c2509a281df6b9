import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeRequest, openConnection } from './http-connection.ts';
import { expectStatus } from './load.ts';
import { type BenchServer, startServer } from './program.ts';
import type { Subject, Traffic } from './subject.ts';

/** The bare route that everything is compared with. */
export type BareRoute = { process: BenchServer; traffic: Traffic; close(): Promise<void> };

const entry = join(import.meta.dirname, 'bare-route.ts');

/** Starts the bare route, whose replies are as long as what this subject answers to a read. */
export async function startBareRoute(like: Subject): Promise<BareRoute> {
  const replyBytes = await readReplyBytes(like);
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-'));
  const environment = { NODE_ENV: 'production', REPLY_BYTES: String(replyBytes) };
  const process = await startServer({ entry, folder, environment, readyPath: '/' });
  const request = encodeRequest(process.origin, { method: 'GET', path: '/' });
  return {
    process,
    traffic: {
      next: () => request,
      check(reply) {
        expectStatus(reply, 200);
        if (reply.body.length !== replyBytes) throw new Error(`the bare route sent ${reply.body.length} bytes`);
      },
    },
    async close() {
      await process.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function readReplyBytes({ process, read }: Subject): Promise<number> {
  const connection = await openConnection(process.origin);
  try {
    const reply = await connection.send(read.next(0));
    read.check(reply, 0);
    return reply.body.length;
  } finally {
    connection.close();
  }
}
