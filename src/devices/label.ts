import Bowser from 'bowser';

/** What a user agent says of itself, as far as a library can read it. */
export type Device = {
  /** For people: "Firefox on Windows"; null when the library knows neither. */
  label: string | null;
  /** For recognition: families without versions, so that an update is no new device. */
  family: string;
};

// What the library does not know it takes from the user agent as it stands, and that is the client's own text: it
// must not get into a mail.
const knownNames: ReadonlySet<string> = new Set(Object.values({ ...Bowser.BROWSER_MAP, ...Bowser.OS_MAP }));

/** Reads a device from a user agent. What it says is the client's own claim and is never trusted. */
export function readDevice(userAgent: string | null): Device {
  if (userAgent === null || userAgent === '') return { label: null, family: 'unknown' };
  const parsed = Bowser.parse(userAgent);
  const browser = knownName(parsed.browser.name);
  const os = knownName(parsed.os.name);
  const names = [browser, os].filter((name) => name !== undefined);
  const platform = Object.values<string>(Bowser.PLATFORMS_MAP).find((type) => type === parsed.platform.type);
  return {
    label: names.length === 0 ? null : names.join(' on '),
    family: [browser, os, platform].map((name) => name ?? '?').join('/'),
  };
}

function knownName(name: string | undefined): string | undefined {
  return name !== undefined && knownNames.has(name) ? name : undefined;
}
