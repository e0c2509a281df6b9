/**
 * `npm test` is run before every change is taken. What takes long is left out of it or done less often, and in full with
 * `npm run test:thorough`, before a release and after a change of what it tests.
 */
const isThorough = process.env.THOROUGH === '1';

/** Says why a test that takes long is left out; false where everything is asked for. */
export const reasonToSkipLong: string | false = !isThorough && 'takes long; THOROUGH=1 runs it';

/** How often something is tried. A variable of the environment, where one is named, sets another number. */
export function howOften({
  brief,
  thorough,
  variable,
}: {
  brief: number;
  thorough: number;
  variable?: string;
}): number {
  const asked = variable === undefined ? undefined : process.env[variable];
  if (asked !== undefined) return Number(asked);
  return isThorough ? thorough : brief;
}
