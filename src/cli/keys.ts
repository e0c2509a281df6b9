import type { Command } from 'commander';
import type { Deps } from '../deps.ts';
import { listSigningKeyInfo, type SigningKeyInfo } from '../keys/flow.ts';
import { type KeyRevocation, revokeSigningKey } from '../keys/revocation.ts';
import { type KeyRotation, rotateSigningKeys } from '../keys/rotation.ts';
import { CommandFailedError } from './command-failed.ts';
import { operatorName, withInstallation } from './installation.ts';
import { renderTable, showTime, timeForJson } from './output.ts';
import { requireConfirmation } from './terminal.ts';

type Options = { yes?: true; json?: true };

// For so long verifiers keep the JWKS that they have fetched (its Cache-Control).
const jwksLifeMs = 300_000;

/** Adds `keys list`, `keys rotate` and `keys revoke`. */
export function addKeys(program: Command): void {
  const keys = program
    .command('keys')
    .summary('list, rotate and revoke the signing keys')
    .helpCommand(false)
    .description('Looks after the keys that sign access tokens.');
  addList(keys);
  addRotate(keys);
  addRevoke(keys);
}

function addList(keys: Command): void {
  keys
    .command('list')
    .summary('list the signing keys')
    .description('Lists the signing keys: the active one signs, the next one will, retired ones still verify.')
    .option('--json', 'print one JSON object a line')
    .addHelpText('after', '\nExample:\n  latchkey keys list')
    .action(({ json }: Options) =>
      withInstallation('existing', async ({ db, keyring }) => {
        const infos = await listSigningKeyInfo(db);
        const isCurrent = ({ sealedUnder }: SigningKeyInfo) => sealedUnder === keyring.current.fingerprint;
        if (json) for (const info of infos) console.log(JSON.stringify(toJson(info, isCurrent(info))));
        else console.log(renderList(infos, isCurrent));
      }),
    );
}

function toJson(info: SigningKeyInfo, isSealedUnderCurrent: boolean) {
  return {
    kid: info.kid,
    state: info.state,
    created_at: timeForJson(info.createdAtMs),
    activated_at: timeForJson(info.activatedAtMs),
    retired_at: timeForJson(info.retiredAtMs),
    sealed_under: info.sealedUnder ?? null,
    sealed_under_newest_secret: isSealedUnderCurrent,
  };
}

function renderList(infos: readonly SigningKeyInfo[], isCurrent: (info: SigningKeyInfo) => boolean): string {
  const rows = infos.map((info) => [
    info.kid,
    info.state,
    showTime(info.createdAtMs),
    showTime(info.activatedAtMs),
    showTime(info.retiredAtMs),
    `${info.sealedUnder ?? '?'}${isCurrent(info) ? '' : ' (an older secret)'}`,
  ]);
  return renderTable(['KEY ID', 'STATE', 'MADE', 'SIGNS SINCE', 'RETIRED', 'SEALED UNDER'], rows);
}

const rotateExplanation = `
The service does this by itself when a key has signed for
SIGNING_KEY_MAX_AGE_SECONDS. Nobody is logged out: tokens of the retired key are
good until they expire. A key that may be in somebody's hands is to be revoked
instead.

Example:
  latchkey keys rotate`;

function addRotate(keys: Command): void {
  keys
    .command('rotate')
    .summary('let the next key sign from now on')
    .description('Lets the next key sign, retires the active one, and makes a new next one.')
    .option('--yes', 'do it without being asked, also where verifiers may not know the next key yet')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', rotateExplanation)
    .action(({ yes, json }: Options) =>
      withInstallation('existing', async (deps) => {
        await confirmUnknownNext(deps, yes);
        const rotation = await rotateSigningKeys(deps, { operator: operatorName() });
        if (rotation === undefined) throw new CommandFailedError('Another process has just rotated the keys.');
        console.log(json ? JSON.stringify(rotation) : renderRotation(rotation));
      }),
    );
}

/** A next key that was just made is in no JWKS that anybody has fetched, and tokens of it are refused until it is. */
async function confirmUnknownNext({ db, clock }: Deps, yes: boolean | undefined): Promise<void> {
  const next = (await listSigningKeyInfo(db)).find(({ state }) => state === 'next');
  const ageMs = clock.now() - (next?.createdAtMs ?? 0);
  if (ageMs >= jwksLifeMs) return;
  await requireConfirmation({
    consequence:
      `The next key was made ${Math.max(0, Math.round(ageMs / 1000))} seconds ago. Services that verify tokens by the JWKS keep ` +
      `it for up to ${jwksLifeMs / 60_000} minutes, and some may refuse tokens of this key until they fetch it again.`,
    word: 'rotate',
    yes,
  });
}

function renderRotation({ activated, retired, next }: KeyRotation): string {
  return [
    `${activated} signs from now on; running instances know it within a second.`,
    `${retired} verifies until its last token has expired.`,
    `${next} is the next one.`,
  ].join('\n');
}

const revokeExplanation = `
For a key that may be in somebody's hands. Every instance refuses its tokens
within a second; where it was the active key, the next one signs at once.
Sessions live on: clients refresh, as they do when a token has expired. Services
that verify by the JWKS learn of it when they fetch it again, within five
minutes by its Cache-Control: see "A signing key is in the wrong hands" in
docs/operations.md.

Example:
  latchkey keys revoke 01978f6e-5c1a-7d2e-9b7a-2f8d1c3e4a5b`;

function addRevoke(keys: Command): void {
  keys
    .command('revoke')
    .argument('<kid>', 'the id of the key, as keys list shows it')
    .summary('refuse every token of a key from now on')
    .description('Removes a signing key, so that every token that it has signed is refused.')
    .option('--yes', 'do it without being asked')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', revokeExplanation)
    .action((kid: string, { yes, json }: Options) =>
      withInstallation('existing', async (deps) => {
        const key = (await listSigningKeyInfo(deps.db)).find((info) => info.kid === kid);
        if (key === undefined) throw new CommandFailedError(`There is no signing key ${kid}. See: latchkey keys list`);
        await requireConfirmation({ consequence: describeRevocation(key), word: 'revoke', yes });
        const revocation = await revokeSigningKey(deps, kid, operatorName());
        if (revocation === undefined) throw new CommandFailedError('Another process has just removed this key.');
        console.log(json ? JSON.stringify(revocation) : renderRevocation(revocation));
      }),
    );
}

function describeRevocation({ kid, state }: SigningKeyInfo): string {
  const effect =
    state === 'next'
      ? 'It has signed nothing yet.'
      : 'Every access token that it has signed is refused, and its owners have to refresh.';
  return `Key ${kid} (${state}) is removed for good. ${effect}`;
}

function renderRevocation({ revoked, activated, next }: KeyRevocation): string {
  return [
    `${revoked} is revoked; running instances refuse its tokens within a second.`,
    ...(activated === undefined ? [] : [`${activated} signs from now on.`]),
    ...(next === undefined ? [] : [`${next} is the next one.`]),
    'Let services that verify by the JWKS fetch it again now, or within five minutes they do so themselves.',
  ].join('\n');
}
