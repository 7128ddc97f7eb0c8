// The resolver of a C library in a process: getaddrinfo() and res_search(), with the search list of its resolv.conf, as
// glibc (resolv/res_query.c, sysdeps/posix/getaddrinfo.c) and musl (src/network/lookup_name.c) walk through it.
//
// Not modelled: nscd and other caches on the host, nsswitch.conf other than "files dns", AI_ADDRCONFIG and other hints, and
// the threads of a process: one resolver is one thread.

import type { RandomStream } from '../../engine/random.ts';
import type { Process } from '../host/process.ts';
import { formatIp, type IpAddress, type IpFamily, isIpv4, isIpv6, parseAddress } from '../packet/ip-address.ts';
import { serverAt } from './dns-transport.ts';
import { absolute, DomainNameError, encodeLabels, sameName } from './domain-name.ts';
import { GlibcExchange, type GlibcState } from './glibc-exchange.ts';
import type { DnsMessage, Question, RecordType } from './message.ts';
import { MuslExchange } from './musl-exchange.ts';
import type { HostsLine } from './pod-hosts.ts';
import { type Libc, type ResolvConf, type StubSettings, stubSettings } from './resolv-conf.ts';
import type { ExchangeContext, Replies, SentQuery, ServerAddress } from './stub-exchange.ts';

/** What getaddrinfo() returns: an error of gai_strerror(3), or `ok`. */
export type LookupStatus = 'ok' | 'EAI_NONAME' | 'EAI_NODATA' | 'EAI_AGAIN' | 'EAI_FAIL';

export interface Lookup {
  readonly status: LookupStatus;
  /** In the order in which an application tries them. */
  readonly addresses: readonly IpAddress[];
}

export interface Search {
  readonly status: LookupStatus;
  /** The one that ended the search. */
  readonly answer: DnsMessage | undefined;
}

export interface StubResolverOptions {
  readonly conf: ResolvConf;
  readonly libc: Libc;
  /** /etc/hosts. */
  readonly hosts?: readonly HostsLine[];
  /** The thread is moved to another CPU between two queries that it sends at once; else it stays where its process is. */
  readonly migrates?: boolean;
  /** Is told of every query when it is sent; the record is filled in later. */
  readonly onQuery?: (query: SentQuery) => void;
}

export class StubResolver {
  readonly settings: StubSettings;
  readonly libc: Libc;
  readonly process: Process;
  readonly #hosts: readonly HostsLine[];
  readonly #migrates: boolean;
  readonly #onQuery: (query: SentQuery) => void;
  readonly #servers: readonly ServerAddress[];
  readonly #state: GlibcState;
  /** Made with the first query. */
  #random: RandomStream | undefined;
  #rotation: number | undefined;

  constructor(process: Process, { conf, libc, hosts = [], migrates = false, onQuery = () => {} }: StubResolverOptions) {
    this.#migrates = migrates;
    this.process = process;
    this.libc = libc;
    this.settings = stubSettings(conf, libc);
    this.#hosts = hosts;
    this.#onQuery = onQuery;
    this.#servers = this.settings.nameservers.map(serverAt);
    const { isSequential, reopensSocket } = this.settings;
    this.#state = { isSequential, reopensSocket };
  }

  /** getaddrinfo(): addresses of a name, of the families that are wanted. */
  lookup(
    name: string,
    { families = [4, 6] }: { readonly families?: readonly IpFamily[] },
    done: (lookup: Lookup) => void,
  ): void {
    const known = this.#withoutDns(name, families);
    if (known.length > 0) return this.#soon(() => done({ status: 'ok', addresses: known }));
    // musl looks at the length first (lookup_name.c).
    if (this.libc === 'musl' && name.length > LONGEST_MUSL_NAME)
      return this.#soon(() => done({ status: 'EAI_NONAME', addresses: [] }));
    const types = families.map((family): 'A' | 'AAAA' => (family === 4 ? 'A' : 'AAAA'));
    this.#walk(name, types, ({ status, messages, asked }) => {
      if (status !== 'ok') return done({ status, addresses: [] });
      const addresses = messages.flatMap((message) => (message === undefined ? [] : addressesIn(message, asked)));
      // An alias of nothing: glibc 2.36 says that there is no such name.
      if (addresses.length === 0)
        return done({ status: this.libc === 'glibc' ? 'EAI_NONAME' : 'EAI_NODATA', addresses });
      done({ status, addresses: this.#inOrder(addresses) });
    });
  }

  /** res_search(): one type of records, through the search list. */
  search(name: string, type: RecordType, done: (search: Search) => void): void {
    this.#walk(name, [type], ({ status, messages: [answer] }) => done({ status, answer }));
  }

  /** An address, or a name of /etc/hosts. */
  #withoutDns(name: string, families: readonly IpFamily[]): readonly IpAddress[] {
    const isWanted = ({ family }: IpAddress): boolean => families.includes(family);
    if (isIpv4(name) || isIpv6(name)) return [parseAddress(name)].filter(isWanted);
    return this.#hosts
      .filter(({ names }) => names.some((own) => own.toLowerCase() === name.toLowerCase()))
      .map(({ address }) => parseAddress(address))
      .filter(isWanted);
  }

  /** Callers hear of what they asked after they have asked. */
  #soon(action: () => void): void {
    this.process.place.scheduleAt(this.process.place.now, action, undefined);
  }

  /**
   * IPv6 before IPv4 if there is a way; musl follows RFC 6724, which puts unique local addresses behind IPv4, glibc the
   * table of RFC 3484, which does not know them.
   */
  #inOrder(addresses: readonly IpAddress[]): readonly IpAddress[] {
    const { stack } = this.process.namespace;
    const rank = ({ family, ip }: IpAddress): number => {
      if (stack.sourceFor(ip, family) === undefined) return 3;
      if (family === 4) return 1;
      return this.libc === 'musl' && isUniqueLocal({ family, ip }) ? 2 : 0;
    };
    return addresses.toSorted((a, b) => rank(a) - rank(b));
  }

  // ── the search list ────────────────────────────────────────────────────────────────────────────────────────────────

  #walk(name: string, types: readonly RecordType[], done: (result: WalkResult) => void): void {
    const walk = this.libc === 'glibc' ? glibcWalk(name, this.settings) : muslWalk(name, this.settings);
    const step = (outcome: Outcome): void => {
      const next = walk.next(outcome);
      if (next.done) return done({ status: next.value, messages: outcome.messages, asked: outcome.asked });
      this.#ask(next.value, types, step);
    };
    const first = walk.next(NOTHING_ASKED);
    if (first.done) return this.#soon(() => done({ status: first.value, messages: [], asked: '' }));
    this.#ask(first.value, types, step);
  }

  #ask(name: string, types: readonly RecordType[], done: (outcome: Outcome) => void): void {
    const asked = absolute(name);
    if (!isAskable(asked)) return this.#soon(() => done({ kind: 'not askable', messages: [], asked }));
    const questions = types.map((type): Question => ({ name: asked, type }));
    const context: ExchangeContext = {
      process: this.process,
      migrates: this.#migrates,
      servers: this.#inRotation(),
      nextId: () => this.#stream().int(65_536),
      note: this.#onQuery,
    };
    const finish = (replies: Replies): void => done(this.#outcomeOf(replies, asked));
    if (this.libc === 'glibc') new GlibcExchange(context, this.settings, this.#state, questions, finish);
    else new MuslExchange(context, this.settings, questions, finish);
  }

  #outcomeOf(replies: Replies, asked: string): Outcome {
    const { messages } = replies;
    return { kind: this.libc === 'glibc' ? glibcOutcome(replies) : muslOutcome(messages), messages, asked };
  }

  #stream(): RandomStream {
    return (this.#random ??= this.process.place.random(`resolver/${this.process.name}`));
  }

  /** `rotate`: each question begins with the next server, the first with any. */
  #inRotation(): readonly ServerAddress[] {
    const servers = this.#servers;
    if (!this.settings.rotates || servers.length < 2) return servers;
    const first = (this.#rotation ?? this.#stream().int(servers.length)) % servers.length;
    this.#rotation = first + 1;
    return [...servers.slice(first), ...servers.slice(0, first)];
  }
}

interface WalkResult {
  readonly status: LookupStatus;
  readonly messages: readonly (DnsMessage | undefined)[];
  readonly asked: string;
}

/** What asking for one name came to. */
interface Outcome {
  readonly kind: 'found' | 'no name' | 'no data' | 'server failed' | 'no answer' | 'refused' | 'not askable' | 'broken';
  readonly messages: readonly (DnsMessage | undefined)[];
  readonly asked: string;
}

const NOTHING_ASKED: Outcome = { kind: 'no name', messages: [], asked: '' };

/** Yields names to ask for, is told what came of each, and returns what the application hears. */
type Walk = Generator<string, LookupStatus, Outcome>;

/** __res_context_search(). */
function* glibcWalk(name: string, { searches, ndots }: StubSettings): Walk {
  if (name === '') return 'EAI_NONAME';
  const dots = name.split('.').length - 1;
  const isAbsolute = name.endsWith('.');
  let asIs: Outcome['kind'] | undefined;
  if (dots >= ndots || isAbsolute) {
    asIs = (yield name).kind;
    if (asIs === 'found') return 'ok';
    if (isAbsolute) return statusOf(asIs);
  }
  let hasNoData = false;
  let hasServerFailed = false;
  let last: Outcome['kind'] = asIs ?? 'no name';
  let hasRoot = false;
  for (const domain of searches) {
    hasRoot ||= domain === '.';
    last = (yield domain === '.' ? `${name}.` : `${name}.${domain}`).kind;
    if (last === 'found') return 'ok';
    if (last === 'refused') return 'EAI_AGAIN';
    hasNoData ||= last === 'no data';
    hasServerFailed ||= last === 'server failed';
    if (last !== 'no name' && last !== 'no data' && last !== 'server failed') break;
  }
  if (asIs === undefined && !hasRoot) {
    last = (yield name).kind;
    if (last === 'found') return 'ok';
  }
  if (asIs !== undefined) return statusOf(asIs);
  if (hasNoData) return 'EAI_NODATA';
  return hasServerFailed ? 'EAI_AGAIN' : statusOf(last);
}

/** name_from_dns_search(): anything but "no such name" ends the search. */
function* muslWalk(name: string, { searches, ndots }: StubSettings): Walk {
  const dots = name.split('.').length - 1;
  const relative = name.endsWith('.') ? name.slice(0, -1) : name;
  if (relative === '' || relative.endsWith('.')) return 'EAI_NONAME';
  if (dots < ndots && !name.endsWith('.'))
    for (const domain of searches) {
      if (domain.length >= MUSL_BUFFER - relative.length - 1) continue;
      const { kind } = yield `${relative}.${domain}`;
      if (kind === 'found') return 'ok';
      if (kind !== 'no name') return statusOf(kind);
    }
  return statusOf((yield relative).kind);
}

/** lookup_name() takes no more; canon[] of name_from_dns_search(). */
const LONGEST_MUSL_NAME = 254;
const MUSL_BUFFER = 256;

function statusOf(kind: Outcome['kind']): LookupStatus {
  switch (kind) {
    case 'found':
      return 'ok';
    case 'no name':
    case 'not askable':
      return 'EAI_NONAME';
    case 'no data':
      return 'EAI_NODATA';
    case 'server failed':
    case 'no answer':
    case 'refused':
      return 'EAI_AGAIN';
    case 'broken':
      return 'EAI_FAIL';
  }
}

/** __res_context_query(): one good answer of two is enough. */
function glibcOutcome({ messages, isRefused, hasFailed }: Replies): Outcome['kind'] {
  const replies = messages.filter((message) => message !== undefined);
  if (replies.length === 0) return isRefused ? 'refused' : hasFailed ? 'server failed' : 'no answer';
  if (replies.some(({ rcode, answers }) => rcode === 'NOERROR' && answers.length > 0)) return 'found';
  const decisive = replies.find(({ rcode }) => rcode !== 'NOERROR')?.rcode ?? 'NOERROR';
  switch (decisive) {
    case 'NXDOMAIN':
      return 'no name';
    case 'NOERROR':
      return 'no data';
    case 'SERVFAIL':
      return 'server failed';
    default:
      return 'broken';
  }
}

/** name_from_dns(): every question must have an answer, and none may be "no such name". */
function muslOutcome(messages: readonly (DnsMessage | undefined)[]): Outcome['kind'] {
  for (const message of messages) {
    if (message === undefined) return 'no answer';
    if (message.rcode === 'NXDOMAIN') return 'no name';
    if (message.rcode !== 'NOERROR') return 'broken';
  }
  return messages.some((message) => message!.answers.length > 0) ? 'found' : 'no data';
}

function isAskable(name: string): boolean {
  try {
    encodeLabels(name);
    return true;
  } catch (error) {
    if (error instanceof DomainNameError) return false;
    throw error;
  }
}

/** Addresses of the name and of what it is an alias of. A loop of aliases has none. */
function addressesIn({ answers }: DnsMessage, asked: string): IpAddress[] {
  let owner = asked;
  for (const _ of answers) {
    const alias = answers.find((record) => record.type === 'CNAME' && sameName(record.name, owner));
    if (alias?.type !== 'CNAME') break;
    owner = alias.target;
  }
  return answers.flatMap((record) =>
    (record.type === 'A' || record.type === 'AAAA') && sameName(record.name, owner)
      ? [parseAddress(record.address)]
      : [],
  );
}

/** fc00::/7 (RFC 4193). */
const isUniqueLocal = ({ family, ip }: IpAddress): boolean => family === 6 && /^f[cd]/.test(formatIp(ip, 6));
