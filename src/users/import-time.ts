const form =
  /^(?<date>\d{4}-\d{2}-\d{2})[T ](?<clock>\d{2}:\d{2}:\d{2})(?:\.(?<fraction>\d{1,9}))?(?:Z|(?<sign>[+-])(?<hours>\d{2}):?(?<minutes>\d{2})?)$/;

/** Reads an RFC 3339 time, also as PostgreSQL spells it, as milliseconds since the epoch; what is finer is cut off. */
export function parseTime(text: string): number | undefined {
  const parts = form.exec(text)?.groups;
  if (parts === undefined) return undefined;
  const { date = '', clock = '', fraction = '', sign, hours, minutes } = parts;
  const local = `${date}T${clock}.${fraction.padEnd(3, '0').slice(0, 3)}Z`;
  const localMs = Date.parse(local);
  // The 30th of February would be read as a day in March.
  if (Number.isNaN(localMs) || new Date(localMs).toISOString() !== local) return undefined;
  if (Number(hours ?? 0) > 23 || Number(minutes ?? 0) > 59) return undefined;
  const offsetMinutes = Number(hours ?? 0) * 60 + Number(minutes ?? 0);
  return localMs - (sign === '-' ? -1 : 1) * offsetMinutes * 60_000;
}
