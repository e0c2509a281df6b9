import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import { isIPv4 } from 'node:net';

/** A certificate with its private key, in PEM. */
type Certificate = { cert: string; key: string };

/** An authority that this test made, and certificates that it signed. */
export type Authority = {
  /** Its own certificate, to be trusted or not. */
  cert: string;
  /** Signs a certificate for these names and IPv4 addresses. */
  issue(names: readonly string[], validity?: { untilMs: number }): Certificate;
};

type Holder = { name: string; publicKey: KeyObject; privateKey: KeyObject };

const dayMs = 86_400_000;
// Object identifiers, DER-encoded.
const ecdsaWithSha256 = '06082a8648ce3d040302';
const commonName = '0603550403';
const basicConstraints = '0603551d13';
const subjectAltName = '0603551d11';
const isTrue = '0101ff';

/** Makes an authority. Node can read certificates and not make them, so the few fields that TLS needs are laid out here. */
export function createAuthority(): Authority {
  // No two are called alike: a verifier looks the issuer up by its name.
  const authority: Holder = {
    name: `authority ${randomBytes(4).toString('hex')}`,
    ...generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  };
  const untilMs = Date.now() + dayMs;
  const isAuthority = extension(basicConstraints, true, der(0x30, isTrue));
  return {
    cert: encode(authority, authority, untilMs, isAuthority),
    issue(names, validity = { untilMs }) {
      const holder: Holder = { name: names[0] ?? '', ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) };
      const altNames = extension(subjectAltName, false, der(0x30, ...names.map(altName)));
      return {
        cert: encode(authority, holder, validity.untilMs, altNames),
        key: holder.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
      };
    },
  };
}

function encode(issuer: Holder, subject: Holder, untilMs: number, extensions: string): string {
  const algorithm = der(0x30, ecdsaWithSha256);
  const body = der(
    0x30,
    der(0xa0, der(0x02, '02')),
    // Positive and not zero.
    der(0x02, `01${randomBytes(15).toString('hex')}`),
    algorithm,
    distinguishedName(issuer.name),
    der(0x30, time(Math.min(untilMs, Date.now()) - dayMs), time(untilMs)),
    distinguishedName(subject.name),
    subject.publicKey.export({ type: 'spki', format: 'der' }).toString('hex'),
    der(0xa3, der(0x30, extensions)),
  );
  const signature = sign('sha256', Buffer.from(body, 'hex'), issuer.privateKey).toString('hex');
  const whole = Buffer.from(der(0x30, body, algorithm, der(0x03, '00', signature)), 'hex').toString('base64');
  return `-----BEGIN CERTIFICATE-----\n${whole.match(/.{1,64}/g)?.join('\n')}\n-----END CERTIFICATE-----\n`;
}

function distinguishedName(name: string): string {
  return der(0x30, der(0x31, der(0x30, commonName, der(0x0c, hex(name)))));
}

function extension(id: string, isCritical: boolean, value: string): string {
  return der(0x30, id, isCritical ? isTrue : '', der(0x04, value));
}

function altName(name: string): string {
  return isIPv4(name) ? der(0x87, Buffer.from(name.split('.').map(Number)).toString('hex')) : der(0x82, hex(name));
}

function time(ms: number): string {
  return der(0x18, hex(new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '')));
}

function hex(text: string): string {
  return Buffer.from(text).toString('hex');
}

/** One value of DER: its tag, the length of what it holds, and that. */
function der(tag: number, ...parts: string[]): string {
  const content = parts.join('');
  const length = content.length / 2;
  const digits = length.toString(16).padStart(length > 0xff ? 4 : 2, '0');
  const prefix = length < 0x80 ? digits : `8${digits.length / 2}${digits}`;
  return `${tag.toString(16).padStart(2, '0')}${prefix}${content}`;
}
