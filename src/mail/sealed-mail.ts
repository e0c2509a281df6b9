import { type Keyring, seal, unseal } from '../crypto/secrets.ts';
import type { Mail } from './transport.ts';

/** Seals a mail for its row: neither the recipient nor the text can be read in the database. */
export function sealMail(keyring: Keyring, rowId: string, mail: Mail): string {
  return seal(keyring, JSON.stringify(mail), sealContext(rowId));
}

/** Opens a sealed mail. Throws when it was sealed for another row, or under a secret that is not configured. */
export function openMail(keyring: Keyring, rowId: string, sealed: string): Mail {
  return JSON.parse(unseal(keyring, sealed, sealContext(rowId))) as Mail;
}

function sealContext(rowId: string): string {
  return `outbox/${rowId}`;
}
