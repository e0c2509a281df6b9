import type { RenderedMessage } from './layout.ts';

/** A message and where it goes. */
export type Mail = RenderedMessage & { to: string };

/** Delivers mail. */
export type MailTransport = {
  /**
   * Resolves once the other side has accepted the message, and rejects otherwise. The id is the message's own at
   * every try, so that a receiver can tell a repetition. `onLetIn` is told when the other side is ready for it.
   */
  send(mail: Mail, id: string, onLetIn?: () => void): Promise<void>;
  /** Looks whether the other side takes mail, without sending any. */
  verify(): Promise<void>;
  close(): Promise<void>;
};

/**
 * What a failure is about: `server` when no mail gets through, whatever it says; `mail` when this one did not, this
 * time; `recipient` when it was refused for good; `policy` when it was refused for good for what the operator of one
 * of the servers can mend, such as a relay that is not allowed.
 */
export type DeliveryFault = 'server' | 'mail' | 'recipient' | 'policy';

type DeliveryErrorParts = {
  fault: DeliveryFault;
  stage: string;
  code: string;
  replyCode: number | undefined;
  enhancedCode: string | undefined;
};

/**
 * Why a mail was not accepted. Nothing in it is in the server's own words: those repeat addresses, and may repeat
 * the message and what it was sent with.
 */
export class DeliveryError extends Error {
  override readonly name = 'DeliveryError';
  readonly fault: DeliveryFault;
  /** The SMTP command that failed; CONN stands for the connection. */
  readonly stage: string;
  /** The reply code of the server, such as 550. */
  readonly replyCode: number | undefined;
  /** Its enhanced status code (RFC 3463), such as 5.1.1. */
  readonly enhancedCode: string | undefined;

  constructor({ fault, stage, code, replyCode, enhancedCode }: DeliveryErrorParts) {
    const reply = [replyCode, enhancedCode].filter((part) => part !== undefined).join(' ');
    super(`${stage} failed: ${reply === '' ? code : `the server replied ${reply}`}`);
    this.fault = fault;
    this.stage = stage;
    this.replyCode = replyCode;
    this.enhancedCode = enhancedCode;
  }

  /** Whether the server said that the same try will never succeed. */
  get isPermanent(): boolean {
    return this.replyCode !== undefined && this.replyCode >= 500;
  }
}
