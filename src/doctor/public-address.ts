import { type Config, isLoopback } from '../config.ts';
import { withRows } from '../db/read-only.ts';
import { listSigningKeyInfo } from '../keys/flow.ts';
import { type Finding, ok, problem, skipped, warning } from './finding.ts';

const answerWaitMs = 5_000;
const maxBodyBytes = 64 * 1024;

type Options = { isProbing: boolean; hasRows: boolean };

/**
 * Asks PUBLIC_URL for its public keys and compares them with ours. Another machine is asked only on request: a look at
 * the configuration should send nothing anywhere.
 */
export async function checkPublicAddress(config: Config, { isProbing, hasRows }: Options): Promise<Finding> {
  const { PUBLIC_URL } = config.environment;
  const isLocal = isLoopback(new URL(PUBLIC_URL).hostname);
  if (!isLocal && !isProbing) return skipped('public_address', `${PUBLIC_URL} was not asked; --probe does it.`);
  const shown = await askForKeys(PUBLIC_URL);
  if (shown instanceof Error) {
    if (isLocal)
      return skipped('public_address', `Nothing answers at ${PUBLIC_URL}: the service does not run, or elsewhere.`);
    return problem('public_address', {
      what: `${PUBLIC_URL} does not answer as this service does (${shown.message}).`,
      why: 'Clients cannot reach it under the address that its tokens and mails name.',
      remedy: 'Check that the service runs, and DNS, certificate and proxy in front of it.',
    });
  }
  const ours = hasRows ? await listOwnKeys(config.environment.DATABASE_URL) : [];
  if (ours.length === 0 || shown.some((kid) => ours.includes(kid))) {
    return ok('public_address', `${PUBLIC_URL} answers with the public keys of this installation.`);
  }
  return warning('public_address', {
    what: `${PUBLIC_URL} answers with the keys of another installation.`,
    why: 'Tokens from here would be refused by whoever verifies them there, and the other way round.',
    remedy: 'Check PUBLIC_URL, DATABASE_URL and DATA_DIR here, and where the proxy leads.',
  });
}

function listOwnKeys(databaseUrl: string): Promise<string[]> {
  return withRows(databaseUrl, async (db) => (await listSigningKeyInfo(db)).map(({ kid }) => kid));
}

async function askForKeys(publicUrl: string): Promise<string[] | Error> {
  try {
    const reply = await fetch(`${publicUrl}/.well-known/jwks.json`, {
      signal: AbortSignal.timeout(answerWaitMs),
      redirect: 'error',
    });
    if (!reply.ok) return new Error(`status ${reply.status}`);
    const text = await readBounded(reply);
    const { keys } = JSON.parse(text) as { keys?: { kid?: unknown }[] };
    return Array.isArray(keys) ? keys.map(({ kid }) => String(kid)) : new Error('no key set');
  } catch (error) {
    // fetch says "fetch failed" and keeps why in the cause.
    const { cause = error } = error as Error;
    const { code, name } = cause as NodeJS.ErrnoException;
    return new Error(code ?? name);
  }
}

async function readBounded(reply: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of reply.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxBodyBytes) throw new Error('an answer that is too long');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
