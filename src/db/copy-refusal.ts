/** Thrown, with a sentence for the operator, when a copy cannot be made. Source and target are as they were. */
export class CopyRefusedError extends Error {
  override readonly name = 'CopyRefusedError';
}

/** Thrown when the answer to the commit did not come: all was copied, or nothing. */
export class CopyUncertainError extends Error {
  override readonly name = 'CopyUncertainError';
}
