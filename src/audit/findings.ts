/** What can be wrong with the audit trail. */
export type AuditFault =
  | 'event_changed'
  | 'event_missing'
  | 'event_added'
  | 'event_blanked'
  | 'seal_changed'
  | 'seal_missing'
  | 'seal_out_of_order'
  | 'seal_forged'
  | 'anchor_forged'
  | 'head_unexpected';

/** One thing that is wrong: at which seal, with which event, and what, to be read after these. */
export type AuditFinding = { fault: AuditFault; seal: number; eventId: string | null; text: string };

/** What was found wrong so far, in the order of the chain. */
export type Findings = {
  add(fault: AuditFault, seal: number, eventId: string | null, text: string): void;
  list(): { findings: readonly AuditFinding[]; moreFindings: number };
};

// The first says where to begin; a table that was emptied would else fill the memory with the rest.
const maxFindings = 20;

/** Collects findings; beyond a number they are only counted. */
export function createFindings(): Findings {
  const findings: AuditFinding[] = [];
  let moreFindings = 0;
  return {
    add(fault, seal, eventId, text) {
      if (findings.length < maxFindings) findings.push({ fault, seal, eventId, text });
      else moreFindings += 1;
    },
    list: () => ({ findings, moreFindings }),
  };
}
