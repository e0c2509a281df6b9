import type { DeliveryError } from './transport.ts';

/** Whether mail gets through, as far as the last try tells. */
export type ServerState = 'up' | 'down';

/** What the outcomes of tries tell of the mail server, and how much may be asked of it now. */
export type ServerWatch = {
  state(): ServerState;
  /** How many deliveries may be under way. */
  places(nowMs: number): number;
  /** Whether nothing has been heard of the server for so long that somebody should look. */
  isLookDue(nowMs: number): boolean;
  /** The server let us in: connection, TLS and login. */
  noteLetIn(nowMs: number): void;
  /** The server took a mail, or refused this one in particular. */
  noteReply(nowMs: number): void;
  /** The server took nothing. `isAlone`: no other delivery is under way that could still prove the contrary. */
  noteTrouble(error: DeliveryError, nowMs: number, isAlone: boolean): void;
};

/** A change of the state, or a server that is down for another reason than before. */
export type ServerEvent = { type: 'server_down'; error: DeliveryError } | { type: 'server_up' };

// Deliveries that may be under way at once. One that is slow takes one place, and the rest go on.
const maxPlaces = 10;
const lookEveryMs = 30_000;
// Between tries while the server is away; the last one goes on.
const pausesMs = [1_000, 2_000, 4_000, 8_000, 10_000] as const;
// The same for a server that refuses everybody for good. With a wrong password, more than four tries in ten minutes
// look like guessing to the usual guards, which then ban the address of this machine.
const refusalPausesMs = [5_000, 120_000, 240_000, 300_000] as const;

/**
 * Watches the mail server. While it is away nothing is claimed but one mail at a time, so that an outage costs the
 * waiting mail neither tries nor time: when the server is back, so is all that waits. Places begin with one and grow
 * with every mail that is let in. A server that takes fewer connections than we make shows as trouble while others
 * succeed, and there are fewer places then.
 */
export function createServerWatch(report: (event: ServerEvent) => void): ServerWatch {
  // Up until the contrary is known, so that no start begins with an alarm.
  let state: ServerState = 'up';
  let places = 1;
  let troubles = 0;
  // A clock that is set back ends the pause.
  let pause = { fromMs: 0, untilMs: 0 };
  let lastHeardMs = Number.NEGATIVE_INFINITY;
  let lastTrouble: DeliveryError | undefined;

  const isPaused = (nowMs: number) => nowMs >= pause.fromMs && nowMs < pause.untilMs;

  function noteReply(nowMs: number): void {
    lastHeardMs = nowMs;
    troubles = 0;
    lastTrouble = undefined;
    if (state === 'up') return;
    state = 'up';
    report({ type: 'server_up' });
  }

  return {
    state: () => state,
    places(nowMs) {
      if (state === 'up') return places;
      return isPaused(nowMs) ? 0 : 1;
    },
    isLookDue: (nowMs) => Math.abs(nowMs - lastHeardMs) >= lookEveryMs && (state === 'up' || !isPaused(nowMs)),
    noteLetIn(nowMs) {
      lastHeardMs = nowMs;
      // Whether it still refuses our sender, only a mail can tell.
      if (lastTrouble?.stage === 'MAIL FROM') return;
      places = Math.min(places + 1, maxPlaces);
      noteReply(nowMs);
    },
    noteReply,
    noteTrouble(error, nowMs, isAlone) {
      places = Math.max(1, Math.floor(places / 2));
      lastHeardMs = nowMs;
      if (state === 'up' && !isAlone) return;
      const pauses = error.isPermanent ? refusalPausesMs : pausesMs;
      pause = { fromMs: nowMs, untilMs: nowMs + (pauses[troubles] ?? pauses.at(-1) ?? 0) };
      troubles += 1;
      state = 'down';
      const isKnown = error.message === lastTrouble?.message;
      lastTrouble = error;
      if (!isKnown) report({ type: 'server_down', error });
    },
  };
}
