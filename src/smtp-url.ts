/** How a connection to the mail server is encrypted. */
export type SmtpTls =
  /** From the first byte (`smtps://`). */
  | 'implicit'
  /** STARTTLS before anything else, or no mail. */
  | 'required'
  /** STARTTLS where the server offers it; whoever sits in between can take the offer away. */
  | 'opportunistic'
  | 'off';

/** The mail server that an SMTP_URL names. */
export type SmtpServer = {
  host: string;
  port: number;
  tls: SmtpTls;
  credentials: { user: string; password: string } | undefined;
};

const choices: readonly string[] = ['required', 'opportunistic', 'off'] satisfies SmtpTls[];
const implicitTlsPort = 465;
const submissionPort = 587;
// A NUL would end the user name within AUTH PLAIN; no server has accounts with any of the others.
const controlPattern = /\p{Cc}/u;

/**
 * Says what an SMTP_URL may not hold although it is a URL. Everything in it is meant: a parameter that we do not know
 * would else be ignored where it might have asked for protection. The words never repeat the URL.
 */
export function findSmtpUrlFault(text: string): string | undefined {
  const { protocol, username, password, hostname, port, pathname, searchParams } = new URL(text);
  const isTlsFromStart = protocol === 'smtps:';
  const [asked, ...others] = searchParams.getAll('tls');
  if (!/^(?:[\w.-]+|\[[\da-f:.]+\])$/i.test(hostname)) return 'names a host that is not in ASCII; write its xn-- form';
  if (pathname !== '' && pathname !== '/') return 'has a path, which means nothing to a mail server';
  if ([...searchParams.keys()].some((name) => name !== 'tls') || others.length > 0) {
    return 'may have one parameter and no other: tls';
  }
  if (asked !== undefined && !choices.includes(asked)) return `may say of tls: ${choices.join(', ')}`;
  if (asked !== undefined && isTlsFromStart) return 'has a tls parameter, which smtps:// does not need';
  if (!isTlsFromStart && Number(port) === implicitTlsPort) {
    return `names port ${implicitTlsPort}, on which TLS begins at once; write smtps://`;
  }
  if ((username === '') !== (password === '')) return 'has a user name without a password, or the other way round';
  if (controlPattern.test(decodeURIComponent(username + password))) {
    return 'has a control character in the user name or password';
  }
  if (asked === 'opportunistic' && username !== '') {
    return 'has a password, which must not go out unencrypted because somebody hid the offer of STARTTLS: say tls=required, or tls=off where the network itself is safe';
  }
  return undefined;
}

/**
 * Reads an SMTP_URL that has no fault. Where it says nothing of TLS, a user name and password require it, and
 * `tlsWithoutPassword` decides the rest for the host.
 */
export function readSmtpUrl(text: string, tlsWithoutPassword: (host: string) => SmtpTls): SmtpServer {
  const { protocol, username, password, hostname, port, searchParams } = new URL(text);
  const isTlsFromStart = protocol === 'smtps:';
  // An IPv6 address stands in brackets.
  const host = hostname.replace(/^\[(.+)\]$/, '$1');
  const credentials =
    username === '' ? undefined : { user: decodeURIComponent(username), password: decodeURIComponent(password) };
  const asked = searchParams.get('tls') as SmtpTls | null;
  const unasked = credentials === undefined ? tlsWithoutPassword(host) : 'required';
  return {
    host,
    port: port === '' ? (isTlsFromStart ? implicitTlsPort : submissionPort) : Number(port),
    tls: isTlsFromStart ? 'implicit' : (asked ?? unasked),
    credentials,
  };
}
