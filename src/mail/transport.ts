import type { RenderedMessage } from './layout.ts';

/** A message and where it goes. */
export type Mail = RenderedMessage & { to: string };

/** Delivers mail. It resolves once the other side has accepted the message, and rejects otherwise. */
export type MailTransport = { send(mail: Mail): Promise<void>; close(): Promise<void> };
