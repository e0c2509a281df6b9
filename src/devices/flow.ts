import ipaddr from 'ipaddr.js';
import { recordEvent } from '../audit/flow.ts';
import { toRfc3339 } from '../clock.ts';
import { hmacSha256, type SecretRoot } from '../crypto/secrets.ts';
import type { Db } from '../db/schema.ts';
import type { Deps } from '../deps.ts';
import { notice } from '../mail/outbox.ts';
import type { RequestContext } from '../request-context.ts';
import { readDevice } from './label.ts';
import {
  deleteDevice,
  deleteDevicesOfUser,
  deleteDevicesOverCap,
  findDevice,
  insertDevice,
  listDevices,
  touchDevice,
} from './store.ts';

/** Whose device it is, and where the notice about a new one goes. */
export type DeviceOwner = { id: string; email: string; locale: string | null };

const devicesPerUserMax = 50;
// Providers hand out addresses from blocks of about this size, so a new address of the same line is not news.
const ipv4PrefixBits = 16;
const ipv6PrefixBits = 32;

/** Remembers the device that an owner is at, which is nobody's news. Pass the transaction of the act. */
export async function rememberDevice(deps: Deps, tx: Db, userId: string, context: RequestContext): Promise<void> {
  const [fingerprint] = fingerprintsOf(deps, userId, context);
  await insertDevice(tx, userId, fingerprint, deps.clock.now());
}

/** Tells the owner when a login comes from a device that was not seen before. Pass the transaction of the login. */
export async function noticeDevice(deps: Deps, tx: Db, owner: DeviceOwner, context: RequestContext): Promise<void> {
  const nowMs = deps.clock.now();
  const [fingerprint, ...older] = fingerprintsOf(deps, owner.id, context);
  if (await touchDevice(tx, owner.id, fingerprint, nowMs)) return;
  await insertDevice(tx, owner.id, fingerprint, nowMs);
  // Known under an older secret: the digest under the newest takes its place, and it is nobody's news.
  if (await deleteDevice(tx, owner.id, older)) return;
  await deleteDevicesOverCap(tx, owner.id, devicesPerUserMax);
  const { label } = readDevice(context.userAgent);
  const event = { type: 'device.noticed', userId: owner.id, details: { device: label ?? '' } } as const;
  await recordEvent(tx, event, context, nowMs);
  await deps.outbox.enqueue(
    tx,
    notice(
      owner,
      {
        kind: 'new_sign_in',
        device: label,
        clientAddress: context.clientAddress,
        time: toRfc3339(nowMs),
      },
      nowMs,
    ),
  );
}

/** Names the device of a request when its user is known on it; undefined otherwise. */
export async function recogniseDevice(
  deps: Deps,
  userId: string,
  context: RequestContext,
): Promise<string | undefined> {
  const isKnown = await findDevice(deps.db, userId, fingerprintsOf(deps, userId, context));
  return isKnown ? describeDevice(context).join(' ') : undefined;
}

/** Forgets every device of a user: a thief's must be news again after the owner has taken the account back. */
export async function forgetDevices(tx: Db, userId: string): Promise<void> {
  await deleteDevicesOfUser(tx, userId);
}

/** Lists when a user's devices were seen, for the export. */
export async function listKnownDevices(db: Db, userId: string) {
  const rows = await listDevices(db, userId, devicesPerUserMax);
  return rows.map((row) => ({ firstSeenAtMs: row.first_seen_at, lastSeenAtMs: row.last_seen_at }));
}

/** One keyed digest for each configured secret, the newest first, so that a rotation forgets no device. */
function fingerprintsOf(deps: Deps, userId: string, context: RequestContext): [string, ...string[]] {
  const parts = [userId, ...describeDevice(context)];
  const digestUnder = (root: SecretRoot) => hmacSha256(root.key('device'), parts);
  const { current, all } = deps.keyring;
  return [digestUnder(current), ...all.filter((root) => root !== current).map(digestUnder)];
}

function describeDevice(context: RequestContext): [family: string, network: string] {
  return [readDevice(context.userAgent).family, networkOf(context.clientAddress)];
}

function networkOf(address: string): string {
  if (!ipaddr.isValid(address)) return address;
  const parsed = ipaddr.process(address);
  return parsed.kind() === 'ipv4'
    ? ipaddr.IPv4.networkAddressFromCIDR(`${parsed.toString()}/${ipv4PrefixBits}`).toString()
    : ipaddr.IPv6.networkAddressFromCIDR(`${parsed.toString()}/${ipv6PrefixBits}`).toString();
}
