import assert from 'node:assert/strict';
import type { Program } from '../program.ts';
import type { System } from '../system.ts';
import { type Balancer, startBalancer } from './balancer.ts';
import { connectApp } from './http.ts';
import { type Environment, openDeps, prepareSurroundings, type Surroundings } from './surroundings.ts';

/** One process of the real program, in the form in which tests use a system. Closing it is a SIGTERM. */
export type Instance = System & {
  program: Program;
  /** How many requests it was sent past the balancer, and answered. */
  answered(): number;
};

/** Two processes of the real program behind a balancer. */
export type Twins = Surroundings & {
  /** Both together: of any two requests in a row each meets another process. */
  system: System;
  balancer: Balancer;
  one: Instance;
  other: Instance;
  /** Starts a further instance, which is not behind the balancer yet. */
  start(settings?: Environment): Promise<Instance>;
};

/** Tells the mail of the two instances apart. */
export const senders = { one: 'one@latchkey.test', other: 'other@latchkey.test' };

/** Starts two instances at the same moment on an empty database. */
export async function startTwins(settings: Environment = {}): Promise<Twins> {
  const surroundings = await prepareSurroundings(settings);
  const cleanUp = new AsyncDisposableStack();
  cleanUp.defer(surroundings.close);
  try {
    const { run, clock } = surroundings;
    const starting = [senders.one, senders.other].map((sender) => run({ MAIL_FROM: sender }));
    const programs = await Promise.all(starting);
    const deps = await openDeps(surroundings);
    cleanUp.defer(deps.close);

    const asInstance = async (program: Program): Promise<Instance> => {
      const document = await (await fetch(`${program.origin}/openapi.json`)).json();
      const { app, answered, close: disconnect } = connectApp(program.origin, document);
      cleanUp.defer(async () => disconnect());
      return { app, deps, clock, program, answered, close: async () => void (await program.stop('SIGTERM')) };
    };
    const [one, other] = await Promise.all(programs.map(asInstance));
    assert.ok(one && other);
    const balancer = await startBalancer();
    cleanUp.defer(balancer.close);
    for (const { program } of [one, other]) balancer.add(program.origin);
    const { app, close: disconnect } = connectApp(balancer.origin, one.app.swagger());
    cleanUp.defer(async () => disconnect());
    const start = async (further?: Environment) => asInstance(await run(further));
    const close = () => cleanUp.disposeAsync();
    return { ...surroundings, system: { app, deps, clock, close }, balancer, one, other, start, close };
  } catch (error) {
    await cleanUp.disposeAsync();
    throw error;
  }
}
