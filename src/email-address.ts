import { domainToASCII, domainToUnicode } from 'node:url';

/** RFC 5321 section 4.5.3.1.3 allows a path of 256 octets, which leaves 254 for the address itself. */
export const emailMaxLength = 254;
const localPartMaxLength = 64;
const domainMaxLength = 253;

// RFC 5322 dot-atom. Quoted local parts are refused: nobody's real mailbox needs one, and every
// parser that disagrees about them is a way to have the code delivered to somebody else.
const localPartPattern = /^[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/;
const asciiDomainPattern = /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])$/;
// Everything outside ASCII is left to IDNA; inside ASCII only what a host name may hold. Without this,
// domainToASCII would decode "%41" and read "0x7f.1" as an address.
const domainInputPattern = /^[a-z0-9.\u0080-\u{10ffff}-]+$/u;

/**
 * Returns the one spelling under which an address is stored, compared and mailed, or undefined when it
 * is not an address we accept. ASCII letters are lowered without any locale; dots and plus signs in the
 * local part mean what the mailbox's owner says, so they stay.
 */
export function canonicalEmailAddress(input: string): string | undefined {
  if (input.length > emailMaxLength) return undefined;
  const at = input.lastIndexOf('@');
  if (at < 1) return undefined;
  const localPart = lowerAscii(input.slice(0, at));
  const domain = canonicalDomain(lowerAscii(input.slice(at + 1)));
  if (localPart.length > localPartMaxLength || !localPartPattern.test(localPart)) return undefined;
  if (domain === undefined) return undefined;
  const address = `${localPart}@${domain}`;
  return address.length > emailMaxLength ? undefined : address;
}

function canonicalDomain(domain: string): string | undefined {
  if (!domainInputPattern.test(domain)) return undefined;
  const ascii = domainToASCII(domain);
  if (ascii.length > domainMaxLength || !asciiDomainPattern.test(ascii)) return undefined;
  // IDNA maps look-alikes such as full-width letters and the Kelvin sign onto plain ASCII. What was
  // typed must be what is mailed, so a domain that the mapping would change is refused.
  const unicode = domainToUnicode(ascii);
  // An A-label that stands for nothing is left as it is by the mapping; no such name can be registered.
  if (unicode === '' || unicode.split('.').some((label) => label.startsWith('xn--'))) return undefined;
  return domain === ascii || domain === unicode ? ascii : undefined;
}

function lowerAscii(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}
