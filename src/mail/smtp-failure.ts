import { DeliveryError, type DeliveryFault } from './transport.ts';

/** What nodemailer tells of a failure, beside the words of the server. */
type SmtpFailure = Error & {
  code?: string;
  /** The code of the system or of TLS under nodemailer's own. */
  originalCode?: string;
  command?: string;
  response?: string;
  responseCode?: number;
  syscall?: string;
};

// What is the same for every mail: a refusal here says nothing about the one that met it. Our sender is one of them.
const stagesBeforeRecipient = /^(?:EHLO|HELO|STARTTLS|AUTH \S{1,20}|MAIL FROM)$/;
const stagesOfRecipient = /^(?:RCPT TO|DATA)$/;
const enhancedPattern = /^\d{3}[ -]([245]\.\d{1,3}\.\d{1,3})\b/;
// RFC 3463: X.7 is security and policy, X.1.7 and X.1.8 the sender's address. Some servers say it in words alone.
const policyEnhancedCodes = /^5\.(?:7\.|1\.[78]$)/;
const policyReplyCodes: ReadonlySet<number> = new Set([530, 534, 535, 538]);
const policyWords = /relay|authenticat|rcpthosts/i;
const codePattern = /^[A-Z0-9_]{1,60}$/;

/**
 * Says what a failed delivery or look means, without the server's words. `hasBegun` tells that the connection stood
 * and the message was on its way: what then breaks may be due to this one message.
 */
export function describeSmtpFailure(thrown: unknown, hasBegun: boolean): DeliveryError {
  const failure: SmtpFailure = thrown instanceof Error ? thrown : new Error('unknown');
  const { command = 'CONN', response = '', responseCode: replyCode } = failure;
  const isKnownStage = stagesBeforeRecipient.test(command) || stagesOfRecipient.test(command);
  return new DeliveryError({
    fault: findFault(failure, hasBegun),
    stage: isKnownStage ? command : 'CONN',
    code:
      [failure.originalCode, failure.code].find((code) => code !== undefined && codePattern.test(code)) ?? 'unknown',
    replyCode,
    enhancedCode: enhancedPattern.exec(response)?.[1],
  });
}

function findFault(
  { command = '', response = '', responseCode, syscall }: SmtpFailure,
  hasBegun: boolean,
): DeliveryFault {
  if (stagesBeforeRecipient.test(command)) return 'server';
  if (!stagesOfRecipient.test(command)) return hasBegun && syscall !== 'connect' ? 'mail' : 'server';
  // 503 complains of the order of our commands, and another connection may do better.
  if (responseCode === undefined || responseCode < 500 || responseCode === 503) return 'mail';
  const enhancedCode = enhancedPattern.exec(response)?.[1];
  const isPolicy =
    policyReplyCodes.has(responseCode) ||
    (enhancedCode !== undefined && policyEnhancedCodes.test(enhancedCode)) ||
    policyWords.test(response);
  return isPolicy ? 'policy' : 'recipient';
}
