/** What a front and a back may read as different requests. `body` follows the headers as it is. */
type Shape = { title: string; lines: readonly string[]; body: string };

// No route has it: whoever answers or logs it has been deceived.
const smuggledPath = '/smuggled-request';

const json = 'Content-Type: application/json';
const smuggled = (host: string) => `GET ${smuggledPath} HTTP/1.1\r\n${host}\r\n\r\n`;

/** Every shape for a host: headers that obscure the length of the body, chunks that are none, and lines that do not end. */
export function smugglingShapes(host: string): Shape[] {
  const post = ['POST /auth/login HTTP/1.1', host, json];
  const hidden = smuggled(host);
  const length = `Content-Length: ${hidden.length + 5}`;
  const chunked = 'Transfer-Encoding: chunked';
  const obscured = [
    'Transfer-Encoding : chunked',
    ' Transfer-Encoding: chunked',
    'X-Folded: a\r\n Transfer-Encoding: chunked',
    'X-Folded: a\r\n\tTransfer-Encoding: chunked',
    'Transfer-Encoding:\r\n chunked',
    'Transfer-Encoding: \x0bchunked',
    'Transfer-Encoding: \x00chunked',
    'Transfer-Encoding: "chunked"',
    'Transfer-Encoding: chunked, chunked',
    'Transfer-Encoding: chunked, gzip',
    'Transfer-Encoding: gzip, chunked',
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity',
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: x',
    'Transfer-Encoding\x00: chunked',
    'X: y\nTransfer-Encoding: chunked',
    'X: y\rTransfer-Encoding: chunked',
    'Content-Length: 5\r\nTransfer-Encoding: chunked',
    'Content-Length : 5',
    'Content-Length: +5',
    'Content-Length: 5;',
    'Content-Length: 5 5',
    'Content-Length: 5\r\nContent-Length: 5',
    'Content-Length: 5\n',
  ];
  const chunks: [string, string][] = [
    ['a size with a sign', `+0\r\n\r\n${hidden}`],
    ['a size in C’s notation', `0x0\r\n\r\n${hidden}`],
    ['a size after a space', ` 0\r\n\r\n${hidden}`],
    ['a size beyond 64 bits', `10000000000000000\r\n0\r\n\r\n${hidden}`],
    ['a size with an underscore', `0_0\r\n\r\n${hidden}`],
    ['chunks whose lines end with LF alone', `2\n{}\n0\n\n${hidden}`],
    ['a chunk that is longer than it says', `1\r\n{}\r\n0\r\n\r\n${hidden}`],
    ['an extension with LF alone', `0;a\n\r\n\r\n${hidden}`],
    ['an extension with CR alone', `0;a\r\r\n\r\n${hidden}`],
    ['an extension of 20 kB', `0;${'a'.repeat(20_000)}\r\n\r\n${hidden}`],
    ['no size at all', `;a\r\n\r\n${hidden}`],
  ];
  return [
    ...obscured.map((header) => ({
      title: JSON.stringify(header),
      lines: [...post, length, header],
      body: `0\r\n\r\n${hidden}`,
    })),
    ...chunks.map(([title, body]) => ({ title, lines: [...post, chunked], body })),
    {
      title: 'a body of HTTP/1.0 in chunks',
      lines: ['POST /auth/login HTTP/1.0', host, json, chunked],
      body: `0\r\n\r\n${hidden}`,
    },
    { title: 'a line of HTTP/0.9', lines: ['GET /health/live'], body: hidden },
    {
      title: 'a request line with LF alone',
      lines: [`GET /health/live HTTP/1.1\nX: y`, host, 'Content-Length : 0'],
      body: hidden,
    },
    { title: 'CONNECT', lines: ['CONNECT latchkey.test:443 HTTP/1.1', host], body: hidden },
    { title: 'a method with a NUL', lines: ['GET\0 /health/live HTTP/1.1', host], body: hidden },
  ];
}
