import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  hash,
  hkdfSync,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto';

/** The purposes for which a key is derived. One label each, so that no key serves two ends. */
type KeyLabel = 'code' | 'refresh-token' | 'password-pepper' | 'seal' | 'device' | 'audit' | 'guessing' | 'limit';

/** The keys derived from one value of SECRET_KEY. */
export type SecretRoot = {
  /** Names the secret without revealing it: 16 hexadecimal digits from a key of its own. */
  fingerprint: string;
  key(label: KeyLabel): Buffer;
};

/** All configured secrets, newest first: the first one makes, every one verifies and opens. */
export type Keyring = { current: SecretRoot; all: readonly SecretRoot[] };

/** Every label, so that none is forgotten where all keys are looked at. */
export const keyLabels: readonly KeyLabel[] = [
  'code',
  'refresh-token',
  'password-pepper',
  'seal',
  'device',
  'audit',
  'guessing',
  'limit',
];
const keyBytes = 32;

/** Derives every key from the values of SECRET_KEY by HKDF-SHA-256 (RFC 5869), newest value first. */
export function createKeyring(secrets: readonly [string, ...string[]]): Keyring {
  const [newest, ...older] = secrets;
  const current = deriveRoot(newest);
  return { current, all: [current, ...older.map(deriveRoot)] };
}

function deriveRoot(secret: string): SecretRoot {
  const keys = new Map(keyLabels.map((label) => [label, deriveKey(secret, label)]));
  return {
    fingerprint: deriveKey(secret, 'fingerprint').toString('hex').slice(0, 16),
    key(label) {
      const key = keys.get(label);
      if (key === undefined) throw new Error(`no key is derived for ${label}`);
      return key;
    },
  };
}

function deriveKey(secret: string, label: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, 'latchkey', `latchkey/v1/${label}`, keyBytes));
}

/** Returns 256 random bits as 43 characters of base64url. */
export function randomToken(): string {
  return randomBytes(32).toString('base64url');
}

/** SHA-256 as base64url: enough to store a token of 256 random bits, which nobody can guess. */
export function sha256(text: string): string {
  return hash('sha256', text, 'base64url');
}

/** HMAC-SHA-256 as base64url over parts joined by a byte that none of them may hold. */
export function hmacSha256(key: Buffer, parts: readonly (string | number)[]): string {
  return createHmac('sha256', key).update(parts.join('\0')).digest('base64url');
}

/** Compares two texts in a time that depends on their length alone. */
export function constantTimeEqual(a: string, b: string): boolean {
  const left = Buffer.from(a);
  const right = Buffer.from(b);
  return left.length === right.length && timingSafeEqual(left, right);
}

const sealVersion = 'v1';
const ivBytes = 12;
const tagBytes = 16;

/**
 * Encrypts text with AES-256-GCM under the newest secret. The context (say, table and row) is
 * authenticated, so that a sealed value cannot be moved to another row and opened there.
 */
export function seal(keyring: Keyring, plaintext: string, context: string): string {
  const root = keyring.current;
  const iv = randomBytes(ivBytes);
  const cipher = createCipheriv('aes-256-gcm', root.key('seal'), iv, { authTagLength: tagBytes });
  cipher.setAAD(Buffer.from(context));
  const sealed = Buffer.concat([iv, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
  return `${sealVersion}.${root.fingerprint}.${sealed.toString('base64url')}`;
}

/** Returns the fingerprint of the secret that a value was sealed under. */
export function sealedUnder(sealed: string): string | undefined {
  return sealed.split('.')[1];
}

/** Opens what `seal` made, with the secret that it names. Throws when that secret is gone or a bit was changed. */
export function unseal(keyring: Keyring, sealed: string, context: string): string {
  const [version, fingerprint, payload, ...rest] = sealed.split('.');
  const root = keyring.all.find((candidate) => candidate.fingerprint === fingerprint);
  const isWellFormed = version === sealVersion && payload !== undefined && rest.length === 0;
  if (!isWellFormed) throw new Error('the sealed value is malformed');
  if (root === undefined) throw new Error(`the secret with fingerprint ${fingerprint} is not configured`);
  const bytes = Buffer.from(payload, 'base64url');
  // One value, one spelling: Buffer would skip stray characters and unused bits.
  if (bytes.toString('base64url') !== payload) throw new Error('the sealed value is malformed');
  const iv = bytes.subarray(0, ivBytes);
  const decipher = createDecipheriv('aes-256-gcm', root.key('seal'), iv, { authTagLength: tagBytes });
  decipher.setAAD(Buffer.from(context));
  decipher.setAuthTag(bytes.subarray(-tagBytes));
  const ciphertext = bytes.subarray(ivBytes, -tagBytes);
  return Buffer.concat([decipher.update(ciphertext), decipher.final()]).toString('utf8');
}
