import type { Logger } from 'pino';
import type { DeliveryEvent } from './attempts.ts';
import { DeliveryError } from './transport.ts';

/** Writes what becomes of mail to the log: ids and reply codes, and neither an address nor a word of the mail. */
export function createDeliveryLog(log: Logger): (event: DeliveryEvent) => void {
  return (event) => {
    switch (event.type) {
      case 'postponed':
        return log.warn(describeTry(event), 'a mail could not be delivered and will be tried again');
      case 'given_up':
        return log.error(describeTry(event), 'a mail was refused for good and is given up');
      case 'expired':
        return log.warn({ mail_id: event.id, attempts: event.attempts }, 'a mail expired before it could be delivered');
      case 'server_down':
        return log.warn(
          describeError(event.error),
          'the mail server takes no mail; what waits is kept and tried again',
        );
      case 'server_up':
        return log.info('the mail server takes mail again');
      case 'outbox_unreachable':
        return log.warn({ err: event.error }, 'the outbox cannot be read; mail is delivered when the database answers');
    }
  };
}

function describeTry({ id, attempts, error }: { id: string; attempts: number; error: unknown }) {
  return { mail_id: id, attempts, ...describeError(error) };
}

function describeError(error: unknown) {
  if (!(error instanceof DeliveryError)) return { err: error };
  // Without a stack: it is the server's doing, not a place in our code.
  const { message: reason, replyCode: reply_code, enhancedCode: enhanced_code } = error;
  return { reason, reply_code, enhanced_code };
}
