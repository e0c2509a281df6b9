import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createAuthority } from './certificates.ts';

/** The files of a certificate and its private key. */
type Pair = { certPath: string; keyPath: string };

/** An authority for programs that read certificates from files. */
export type AuthorityFiles = {
  certPath: string;
  /** Signs a certificate for a common name, which is also the host that it is for. */
  sign(name: string): Pair;
  remove(): void;
};

/** Makes an authority whose certificates are files in a folder of their own. */
export function createAuthorityFiles(): AuthorityFiles {
  const folder = mkdtempSync(join(tmpdir(), 'latchkey-authority-'));
  const authority = createAuthority();
  const write = (name: string, text: string): string => {
    const path = join(folder, name);
    // PostgreSQL refuses a key that others could read.
    writeFileSync(path, text, { mode: 0o600 });
    return path;
  };
  return {
    certPath: write('authority.crt', authority.cert),
    sign(name) {
      const { cert, key } = authority.issue([name]);
      return { certPath: write(`${name}.crt`, cert), keyPath: write(`${name}.key`, key) };
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}
