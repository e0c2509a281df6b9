import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DockerfileParser, type Instruction, type JSONInstruction } from 'dockerfile-ast';

const root = join(import.meta.dirname, '..');

/** The Dockerfile of this repository, as it stands. */
export const dockerfileText = readFileSync(join(root, 'Dockerfile'), 'utf8');

/** One instruction: its flags, and what follows as words, or as the array of the exec form. */
export type Step = {
  keyword: string;
  flags: ReadonlyMap<string, string>;
  words: readonly string[];
  text: string;
  /** Undefined in the shell form. */
  exec: readonly string[] | undefined;
};

/** One stage of a build. */
export type Stage = { name: string; base: string; steps: readonly Step[] };

/** Reads a Dockerfile into its stages. */
export function readStages(text: string): Stage[] {
  const stages: Stage[] = [];
  for (const instruction of DockerfileParser.parse(text).getInstructions()) {
    const step = readStep(instruction);
    if (step.keyword === 'FROM') {
      const [base = '', as, name = `${stages.length}`] = step.words;
      assert.ok(as === undefined || as === 'AS', step.text);
      stages.push({ name, base, steps: [] });
    } else {
      const stage = stages.at(-1);
      assert.ok(stage, `${step.keyword} stands before the first FROM`);
      stages[stages.length - 1] = { ...stage, steps: [...stage.steps, step] };
    }
  }
  return stages;
}

function readStep(instruction: Instruction): Step {
  const words = instruction.getArguments().map((argument) => argument.getValue());
  const text = instruction.getArgumentsContent() ?? '';
  // HEALTHCHECK is the one instruction whose array follows a word.
  const array = /^(?:CMD\s+)?(\[.*\])$/s.exec(text)?.[1];
  const flags = hasFlags(instruction) ? instruction.getFlags() : [];
  return {
    keyword: instruction.getKeyword(),
    flags: new Map(flags.map((flag) => [flag.getName(), flag.getValue() ?? ''])),
    words,
    text,
    exec: array === undefined ? undefined : (JSON.parse(array) as string[]),
  };
}

function hasFlags(instruction: Instruction): instruction is JSONInstruction {
  return 'getFlags' in instruction;
}

/** Reads a .dockerignore: the answer says whether a path of the context is left out. The last pattern that fits decides. */
export function readIgnore(text: string): (path: string) => boolean {
  const patterns = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return (path) => {
    // The folder itself.
    if (path === '' || path === '.') return false;
    const parts = path.split('/');
    // A pattern that fits a folder fits all that is in it.
    const prefixes = parts.map((_, index) => parts.slice(0, index + 1).join('/'));
    const fitting = patterns.findLast((pattern) =>
      prefixes.some((prefix) => toRegExp(pattern.replace(/^!/, '')).test(prefix)),
    );
    return fitting !== undefined && !fitting.startsWith('!');
  };
}

/** As Docker reads a pattern: an asterisk stands for names that begin with a dot too, which a shell leaves out. */
function toRegExp(pattern: string): RegExp {
  const parts = pattern.split(/(\*\*\/|\*)/).map((part) => {
    if (part === '**/') return '(?:.*/)?';
    return part === '*' ? '[^/]*' : RegExp.escape(part);
  });
  return new RegExp(`^${parts.join('')}$`);
}
