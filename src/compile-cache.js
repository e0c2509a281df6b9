// JavaScript, as are the two files that begin with it: to run TypeScript, Node.js loads a compiler of 17 MB unless it
// finds in the cache what that made of it before. Types are checked all the same.
import { lstatSync, mkdirSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

/**
 * Lets Node.js keep what it compiles, which is half of what a start does. Never fails: without a cache a start is slower.
 *
 * What lies in the cache is run, so it lies where the code does: whoever can write to node_modules needs no cache to
 * have a program of theirs run. Not in DATA_DIR, which is backed up, restored and moved, nor in the shared folder for
 * temporary files. A folder that is another user's, or open to others, or a link, is left alone.
 */
export function keepCompiledCode() {
  // The operator has named a place, or Node.js was told to do without.
  if (process.env.NODE_COMPILE_CACHE || process.env.NODE_DISABLE_COMPILE_CACHE) return;
  const userId = process.getuid?.();
  // One for each user: what root has compiled for a command is not the service's to read.
  const folder = fileURLToPath(new URL(`../node_modules/.latchkey-${userId ?? 'compiled'}`, import.meta.url));
  if (!isOurs(folder, userId)) return;
  const { directory } = enableCompileCache({ directory: folder });
  // The threads that hash passwords find it there.
  if (directory !== undefined) process.env.NODE_COMPILE_CACHE = folder;
}

/**
 * @param {string} folder
 * @param {number | undefined} userId undefined where the system has no such thing
 */
function isOurs(folder, userId) {
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch {
    // It is there already, or the file system is read-only, or node_modules is not ours.
  }
  try {
    const found = lstatSync(folder);
    if (!found.isDirectory()) return false;
    return userId === undefined || (found.uid === userId && (found.mode & 0o022) === 0);
  } catch {
    return false;
  }
}
