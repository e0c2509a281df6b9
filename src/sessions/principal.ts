/** Who makes a request, as the guard found it in the database just now. */
export type Principal = {
  userId: string;
  sessionId: string;
  /** When the user last proved who they are in this session, in milliseconds since the epoch. */
  authenticatedAtMs: number;
  roles: readonly string[];
  permissions: readonly string[];
};
