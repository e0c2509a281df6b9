/** A secret that was found where it must not be. The text around it is not repeated, only where it is. */
export type Finding = { kind: string; place: string; at: number };

/** Secrets in play, and the search for them. */
export type Vault = {
  /** Remembers a secret. Bytes are remembered in every encoding too. */
  note(kind: string, secret: string | Buffer): void;
  /** Finds every secret in a text, also encoded, and also a part of it of 16 characters and more. */
  search(place: string, text: string): Finding[];
  /** The same without the short secrets, which turn up by chance in what is encrypted. */
  searchSealed(place: string, text: string): Finding[];
  /** How many secrets are known. */
  size(): number;
};

type Known = { kind: string; text: string };
type Place = { known: Known; offset: number };

/** The shortest part of a long secret that is one. */
const partLength = 16;
// Any part of 16 characters holds a whole window that begins at a multiple of eight.
const windowLength = 9;
const stride = partLength - windowLength + 1;
const minShortLength = 6;

/** Creates an empty vault. */
export function createVault(): Vault {
  const windows = new Map<string, Place[]>();
  const short = new Map<string, string>();
  const noted = new Set<string>();

  function noteLong(known: Known): void {
    for (let offset = 0; offset + windowLength <= known.text.length; offset += stride) {
      const window = known.text.slice(offset, offset + windowLength);
      const places = windows.get(window);
      if (places === undefined) windows.set(window, [{ known, offset }]);
      else if (places.length < 50) places.push({ known, offset });
    }
  }

  function note(kind: string, secret: string | Buffer): void {
    const bytes = Buffer.from(secret);
    const key = `${kind} ${bytes.toString('base64')}`;
    if (noted.has(key)) return;
    noted.add(key);
    for (const text of new Set(spellings(secret))) {
      if (text.length >= partLength) noteLong({ kind, text });
      else if (text.length >= minShortLength) short.set(text, kind);
    }
  }

  function searchSealed(place: string, text: string): Finding[] {
    const found = new Map<string, Finding>();
    for (let at = 0; at + windowLength <= text.length; at += 1) {
      const places = windows.get(text.slice(at, at + windowLength));
      for (const { known, offset } of places ?? []) {
        const isPart = commonLength(text, at, known.text, offset) >= partLength;
        if (isPart && !found.has(known.text)) found.set(known.text, { kind: known.kind, place, at });
      }
    }
    return [...found.values()];
  }

  function searchShort(place: string, text: string): Finding[] {
    return [...text.matchAll(/[A-Za-z0-9]+/g)].flatMap(({ 0: word, index }) => {
      const kind = short.get(word);
      return kind === undefined ? [] : [{ kind, place, at: index }];
    });
  }

  return {
    note,
    search: (place, text) => [...searchSealed(place, text), ...searchShort(place, text)],
    searchSealed,
    size: () => noted.size,
  };
}

/** How long the text and the secret are the same around two places where they are. */
function commonLength(text: string, at: number, secret: string, offset: number): number {
  let before = 0;
  while (before < offset && before < at && text[at - before - 1] === secret[offset - before - 1]) before += 1;
  let after = 0;
  while (offset + after < secret.length && at + after < text.length && text[at + after] === secret[offset + after])
    after += 1;
  return before + after;
}

/** A secret as it is and in every usual encoding. In base64 it looks different at each of three places. */
function spellings(secret: string | Buffer): string[] {
  const bytes = Buffer.from(secret);
  const aligned = [0, 1, 2].flatMap((shift) => {
    const whole = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .replaceAll('=', '');
    // The characters at the ends depend on what is beside it.
    const inner = whole.slice(shift === 0 ? 0 : shift + 1, bytes.length % 3 === 0 && shift === 0 ? undefined : -1);
    return [inner, inner.replaceAll('+', '-').replaceAll('/', '_')];
  });
  const encoded = [bytes.toString('base64'), bytes.toString('base64url'), bytes.toString('hex'), ...aligned];
  encoded.push(bytes.toString('hex').toUpperCase());
  if (typeof secret !== 'string') return encoded;
  const json = JSON.stringify(secret).slice(1, -1);
  const form = new URLSearchParams({ a: secret }).toString().slice(2);
  return [secret, encodeURIComponent(secret), form, json, JSON.stringify(json).slice(1, -1), ...encoded];
}
