/** How a check came out. `skipped`: it could not be made, or was not asked for. */
export type FindingState = 'ok' | 'warning' | 'problem' | 'skipped';

/** What one check found: what is so, and where something is wrong why it matters and what to do about it. */
export type Finding = {
  /** Names the check for scripts; the same whatever it finds. */
  check: string;
  state: FindingState;
  what: string;
  why?: string;
  remedy?: string;
};

/** What makes a finding that is worth acting on. */
type Trouble = { what: string; why: string; remedy: string };

/** The check found nothing to do. */
export function ok(check: string, what: string): Finding {
  return { check, state: 'ok', what };
}

/** It works, and will not always, or not as safely as it should. */
export function warning(check: string, trouble: Trouble): Finding {
  return { check, state: 'warning', ...trouble };
}

/** It does not work, or is not safe. */
export function problem(check: string, trouble: Trouble): Finding {
  return { check, state: 'problem', ...trouble };
}

/** The check was not made. */
export function skipped(check: string, what: string): Finding {
  return { check, state: 'skipped', what };
}
