import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');

/** The blocks of code of a language under a heading of a page, or under its title, in their order. */
export function readBlocks(path: string, heading: string, language: string): string[] {
  const page = readFileSync(join(root, path), 'utf8');
  const sections = page.split(/^(?=##? )/m);
  const section = sections.find((text) => /^##? (.+)\n/.exec(text)?.[1] === heading) ?? '';
  const blocks = [...section.matchAll(/^( *)```(\w+)\n([\s\S]*?)^ *```$/gm)].filter(
    ([, , found]) => found === language,
  );
  assert.ok(blocks.length > 0, `${path} has no ${language} under ${heading}`);
  // A block that belongs to a step of a list is indented like it.
  return blocks.map(([, indent = '', , text = '']) => text.replaceAll(new RegExp(`^${indent}`, 'gm'), ''));
}
