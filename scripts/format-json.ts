const lineWidth = 100;

/** Lays out JSON for a reader: what fits on one line stays on one. */
export function formatJson(value: unknown, indent = ''): string {
  const short = formatOnOneLine(value);
  if (indent.length + short.length <= lineWidth || typeof value !== 'object' || value === null) return short;
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    const items = value.map((item) => inner + formatJson(item, inner));
    return `[\n${items.join(',\n')}\n${indent}]`;
  }
  const members = Object.entries(value).map(([key, member]) => `${inner}"${key}": ${formatJson(member, inner)}`);
  return `{\n${members.join(',\n')}\n${indent}}`;
}

function formatOnOneLine(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(formatOnOneLine).join(', ')}]`;
  const members = Object.entries(value).map(([key, member]) => `${JSON.stringify(key)}: ${formatOnOneLine(member)}`);
  return members.length === 0 ? '{}' : `{ ${members.join(', ')} }`;
}
