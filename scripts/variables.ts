import { randomBytes } from 'node:crypto';
import { loadConfig } from '../src/config.ts';
import { ConfigError } from '../src/config-error.ts';
import { type Environment, environmentSchema } from '../src/config-schema.ts';

/** What TypeBox keeps of one variable in the schema. */
type Property = {
  type?: 'string' | 'integer';
  anyOf?: { const: string }[];
  default?: string | number;
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  pattern?: string;
  description: string;
};

export type Variable = {
  name: string;
  property: Property;
  /** The description without the sentence that says the default. */
  meaning: string;
  /** What that sentence says, where the default is no constant of the schema. */
  computedDefault: string | undefined;
  /** The value that development runs with when the variable is not set; empty where there is none to write down. */
  developmentValue: string;
};

// A dot ends the sentence only before a space or the end: the default may be a path with dots in it.
const defaultSentence = / ?Default: (.+?)\.(?= |$)/;

/** Lists every variable of the environment in the order of the schema. */
export function listVariables(): Variable[] {
  const environment = loadConfig({ SECRET_KEY: exampleSecret() }).environment;
  return Object.entries(environmentSchema.properties as unknown as Record<string, Property>).map(([name, property]) => {
    const computedDefault = defaultSentence.exec(property.description)?.[1];
    // A number that is computed is computed from the machine, and must not be written down as if it were fixed.
    const isKnown = property.default !== undefined || (computedDefault !== undefined && property.type === 'string');
    return {
      name,
      property,
      meaning: property.description.replace(defaultSentence, ''),
      computedDefault,
      developmentValue: isKnown ? String(environment[name as keyof Environment]) : '',
    };
  });
}

/** Names the variables without which production does not start, as the service itself names them. */
export function listRequiredInProduction(): string[] {
  const required = /^(\w+) is required in production$/;
  return refusals({ NODE_ENV: 'production' }).flatMap((problem) => required.exec(problem)?.slice(1) ?? []);
}

/** Loads a configuration that must be refused, and returns what the service says about it. */
export function refusals(environment: Record<string, string>): readonly string[] {
  try {
    loadConfig(environment);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  throw new Error(`the service accepts what should be refused: ${JSON.stringify(environment)}`);
}

/** A SECRET_KEY that is accepted; it differs from run to run, so it must not get into a document. */
export function exampleSecret(): string {
  return randomBytes(48).toString('base64');
}
