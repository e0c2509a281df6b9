import { keyLabels } from '../../src/crypto/secrets.ts';
import type { Deps } from '../../src/deps.ts';
import type { Vault } from './vault.ts';

const secretFields = [
  'password',
  'current_password',
  'new_password',
  'code',
  'verification_token',
  'access_token',
  'refresh_token',
];
const tokenFields = /"(?:access_token|refresh_token|verification_token)":"[^"]*"/g;

/** What is secret of the fields of a body: names in a token that are no secrets, such as a session's id, stay out. */
export function listSecrets(body: unknown): [string, string][] {
  if (typeof body !== 'object' || body === null) return [];
  return Object.entries(body).flatMap(([name, value]): [string, string][] => {
    if (!secretFields.includes(name) || typeof value !== 'string') return [];
    return cutSecret(name, value).map((part) => [name, part]);
  });
}

function cutSecret(name: string, value: string): string[] {
  const parts = value.split('.');
  // A test may present a refresh token as an access token, and the session's id in it is no secret.
  if (name === 'access_token') return parts.slice(1).filter((part) => !/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(part));
  if (name === 'refresh_token' || name === 'verification_token') return parts.slice(-1);
  return [value];
}

/** A reply without the tokens that it is there to hand over. */
export function withoutTokens(text: string): string {
  return text.replaceAll(tokenFields, '"token":"handed over"');
}

/** Remembers what a service was started with: its secrets, the keys made from them, and the passwords in its URLs. */
export function noteConfiguration(
  vault: Pick<Vault, 'note'>,
  { config, keyring }: Pick<Deps, 'config' | 'keyring'>,
): void {
  const { METRICS_TOKEN, DATABASE_URL, REDIS_URL, SMTP_URL } = config.environment;
  for (const secret of config.secretKeys) vault.note('SECRET_KEY', secret);
  for (const root of keyring.all) for (const label of keyLabels) vault.note(`the key for ${label}`, root.key(label));
  if (METRICS_TOKEN !== undefined) vault.note('METRICS_TOKEN', METRICS_TOKEN);
  for (const url of [DATABASE_URL, REDIS_URL, SMTP_URL]) {
    const password = url?.includes('://') ? decodeURIComponent(new URL(url).password) : '';
    if (password !== '') vault.note('the password of a URL', password);
  }
}
