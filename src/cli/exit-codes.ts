/** What the command line says to the shell. Commander's own errors are `notUnderstood`. */
export const exitCodes = {
  done: 0,
  failed: 1,
  notUnderstood: 2,
  /** Nothing was done: the operator said no, or a look found something that is still to do. */
  declined: 3,
  /** Interrupted while it asked: 128 and the number of SIGINT, as shells count it. */
  interrupted: 130,
} as const;
