import { proveAddress } from './accounts.ts';
import type { Call } from './client.ts';
import type { System } from './system.ts';

/** The password that a reset sets. */
export const newPassword = 'quiet lantern over the harbour';

/** The request that sets it. */
export function reset(verification_token: string, new_password = newPassword): Call {
  return { method: 'POST', path: '/auth/reset-password', body: { verification_token, new_password } };
}

/** Proves an address when the budget of mails allows the next one. */
export async function prove(system: System, email: string, purpose = 'password_reset'): Promise<string> {
  system.clock.advanceSeconds(61);
  return proveAddress(system, email, purpose);
}

/** The events of one type that a user has. */
export async function eventsOf(system: System, userId: string, type: string) {
  const query = system.deps.db.selectFrom('audit_events').selectAll();
  return query.where('user_id', '=', userId).where('type', '=', type).execute();
}

/** How many sessions a user has. */
export async function sessionsOf(system: System, userId: string): Promise<number> {
  const query = system.deps.db.selectFrom('sessions').select('id').where('user_id', '=', userId);
  return (await query.execute()).length;
}
