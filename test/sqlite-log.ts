import { readFileSync } from 'node:fs';

const headerBytes = 32;
const frameHeaderBytes = 24;

/**
 * Counts the commits in the log of a SQLite file since the log began: each ends with a frame that says how large the file
 * is after it. With `synchronous=FULL` each was one wait for the disk.
 */
export function countCommits(path: string): number {
  const log = readFileSync(`${path}-wal`);
  if (log.length < headerBytes) return 0;
  const frameBytes = frameHeaderBytes + log.readUInt32BE(8);
  // Frames of an earlier round of the log have other salts.
  const salts = log.subarray(16, 24);
  let commits = 0;
  for (let at = headerBytes; at + frameBytes <= log.length; at += frameBytes) {
    if (!log.subarray(at + 8, at + 16).equals(salts)) break;
    if (log.readUInt32BE(at + 4) !== 0) commits += 1;
  }
  return commits;
}
