import { open } from 'node:fs/promises';
import { CommandFailedError } from './command-failed.ts';

/** A file that only this user may read, being written. */
export type PrivateFile = { write(text: string): Promise<void>; close(): Promise<void> };

// Readable and writable by its owner.
const ownerOnly = 0o600;
const bufferedCharacters = 65_536;

/**
 * Begins a new file. One that is there is never written to: it may be another run's, and others may have it open. The
 * option is what the file was named with.
 */
export async function createPrivateFile(path: string, option: string): Promise<PrivateFile> {
  const handle = await open(path, 'wx', ownerOnly).catch((cause: NodeJS.ErrnoException) => {
    const reason =
      cause.code === 'EEXIST' ? 'it is there already, and is not replaced' : `it cannot be made (${cause.code})`;
    throw new CommandFailedError(`${option}: ${path}: ${reason}.`, { cause });
  });
  let waiting = '';
  const flush = async () => {
    const text = waiting;
    waiting = '';
    await handle.appendFile(text).catch((cause: NodeJS.ErrnoException) => {
      throw new CommandFailedError(`${option}: ${path} cannot be written (${cause.code}).`, { cause });
    });
  };
  return {
    async write(text) {
      waiting += text;
      if (waiting.length >= bufferedCharacters) await flush();
    },
    async close() {
      try {
        await flush();
        await handle.sync();
      } finally {
        await handle.close();
      }
    },
  };
}
