import { setFlagsFromString } from 'node:v8';

// The engine reads this number whenever it thinks of enlarging the space of new objects, and does nothing else with it.
// A version that no longer knows it takes more memory, and that is all.
const growthFactorFlag = '--semi-space-growth-factor';

/**
 * Keeps the space of new objects as small as it begins. Loading modules would have it grow to the size that suits
 * heavy load, and a service that is then idle would keep those 25 MB.
 */
export function keepYoungGenerationSmall(): void {
  setFlagsFromString(`${growthFactorFlag}=1`);
}

/** Lets the space grow with the work, as the engine does by itself: a small one costs a tenth of the processor under load. */
export function letYoungGenerationGrow(): void {
  setFlagsFromString(`${growthFactorFlag}=2`);
}
