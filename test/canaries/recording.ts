import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

/** What the systems of a run leave behind, for the search when it is over. Every process has files of its own. */
export type Recording = {
  secret(kind: string, secret: string | Buffer): void;
  /** `sealed` is what is encrypted, in which short secrets turn up by chance. */
  text(place: 'log' | 'replies' | 'metrics' | 'database' | 'redis' | 'sealed', text: string): void;
};

/** Creates a recording into a folder. */
export function createRecording(folder: string): Recording {
  const append = (name: string, text: string) => appendFileSync(join(folder, `${process.pid}.${name}`), text);
  return {
    secret: (kind, secret) =>
      append(
        'secrets',
        `${JSON.stringify({ kind, isText: typeof secret === 'string', base64: Buffer.from(secret).toString('base64') })}\n`,
      ),
    text: (place, text) => append(place, `${text}\n`),
  };
}

const folder = process.env.CANARIES;

/** The recording of this run; undefined but for `npm run test:canaries`. */
export const recording: Recording | undefined = folder === undefined ? undefined : createRecording(folder);
