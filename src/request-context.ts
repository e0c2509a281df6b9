/** What a flow may know of the request that it serves: plain values, so that no flow depends on HTTP. */
export type RequestContext = {
  requestId: string;
  /** The client's address after the rules of TRUST_PROXY; IPv4-mapped addresses are unmapped. */
  clientAddress: string;
  /** At most 512 characters of the User-Agent header. */
  userAgent: string | null;
  /** Aborted when the client goes away, so that queued work can be dropped. */
  signal: AbortSignal;
};
