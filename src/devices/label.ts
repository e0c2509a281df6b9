import Bowser from 'bowser';

/** What a user agent says of itself, as far as a library can read it. */
export type Device = {
  /** For people: "Firefox on Windows"; null when the library knows neither. */
  label: string | null;
  /** For recognition: families without versions, so that an update is no new device. */
  family: string;
};

const labelMaxLength = 100;

/** Reads a device from a user agent. What it says is the client's own claim and is never trusted. */
export function readDevice(userAgent: string | null): Device {
  if (userAgent === null || userAgent === '') return { label: null, family: 'unknown' };
  const { browser, os, platform } = Bowser.parse(userAgent);
  const names = [browser.name, os.name].filter((name) => name !== undefined && name !== '');
  const label = names.length === 0 ? null : names.join(' on ').slice(0, labelMaxLength);
  return { label, family: [browser.name, os.name, platform.type].map((name) => name ?? '?').join('/') };
}
