// Lookups against scripted servers. What is said of glibc was seen of glibc 2.36 (Debian 12) in a network namespace, with
// the same script in a name server on loopback; musl is told by its source.

import { describe, expect, test } from 'vitest';
import { inSeconds } from '../../engine/time.ts';
import { formatIp } from '../packet/ip-address.ts';
import { type Answer, emptyAnswer, type Rcode, type ResourceRecord } from './message.ts';
import type { Libc } from './resolv-conf.ts';
import { type Script, StubLab } from './stub-lab.ts';

const SEARCHES = ['default.svc.cluster.local', 'svc.cluster.local', 'cluster.local'];

const no = (rcode: Rcode): Answer => ({ ...emptyAnswer(rcode), isAuthoritative: true });
const yes = (...answers: ResourceRecord[]): Answer => ({ ...no('NOERROR'), answers });
const address = (name: string, type: string): ResourceRecord => ({
  name,
  ttlSeconds: 5,
  ...(type === 'A' ? { type: 'A', address: '192.0.2.60' } : { type: 'AAAA', address: '2001:db8::1' }),
});

/** By the first label of names in the first domain. */
const script: Script = ({ name, type }, _server, _protocol, time) => {
  switch (name) {
    case 'web.default.svc.cluster.local.':
      return yes(address(name, type));
    case 'bad.svc.cluster.local.':
    case 'allbad.default.svc.cluster.local.':
      return no('SERVFAIL');
    case 'slow.default.svc.cluster.local.':
      return undefined;
    case 'half.default.svc.cluster.local.':
      return type === 'A' ? yes(address(name, type)) : no('NXDOMAIN');
    case 'aaaaonly.default.svc.cluster.local.':
      return type === 'A' ? no('SERVFAIL') : yes(address(name, type));
    case 'lost.default.svc.cluster.local.':
      return type === 'AAAA' && time === 0 ? undefined : yes(address(name, type));
    case 'kube-system.svc.cluster.local.':
      return no('NOERROR');
    case 'alias.default.svc.cluster.local.':
      return yes({ name, ttlSeconds: 5, type: 'CNAME', target: 'foo.x.' });
    default:
      return no('NXDOMAIN');
  }
};

/** A line per query: seconds, type and name without the cluster's domain; the port by number of first use. */
function lookUp(
  name: string,
  { libc = 'glibc', options = [], servers = 1 }: { libc?: Libc; options?: string[]; servers?: number } = {},
) {
  const lab = new StubLab({ servers, script });
  const settings = ['ndots:5', 'timeout:1', 'attempts:2', ...options];
  const { lookup, queries } = lab.lookup(name, { libc, searches: SEARCHES, options: settings });
  const ports: (number | undefined)[] = [];
  const lines = queries.map(({ sentAt, question, sourcePort, protocol }) => {
    if (!ports.includes(sourcePort)) ports.push(sourcePort);
    const where = protocol === 'TCP' ? 'TCP' : `port ${ports.indexOf(sourcePort)}`;
    return `${inSeconds(sentAt).toFixed(0)} ${question.type} ${question.name} ${where}`;
  });
  return {
    result:
      lookup.status === 'ok' ? lookup.addresses.map(({ ip, family }) => formatIp(ip, family)).sort() : lookup.status,
    lines,
  };
}

describe('glibc', () => {
  test('a server that fails is asked again from the same port, and then the next domain', () => {
    const { result, lines } = lookUp('bad');
    expect(result).toBe('EAI_AGAIN');
    expect(lines).toEqual([
      '0 A bad.default.svc.cluster.local. port 0',
      '0 AAAA bad.default.svc.cluster.local. port 0',
      '0 A bad.svc.cluster.local. port 1',
      '0 AAAA bad.svc.cluster.local. port 1',
      '0 A bad.svc.cluster.local. port 1',
      '0 AAAA bad.svc.cluster.local. port 1',
      '0 A bad.cluster.local. port 2',
      '0 AAAA bad.cluster.local. port 2',
      '0 A bad. port 3',
      '0 AAAA bad. port 3',
    ]);
  });

  test('after timeouts no other domain is tried, but the name as it is', () => {
    const { result, lines } = lookUp('slow');
    expect(result).toBe('EAI_NONAME');
    expect(lines).toEqual([
      '0 A slow.default.svc.cluster.local. port 0',
      '0 AAAA slow.default.svc.cluster.local. port 0',
      '1 A slow.default.svc.cluster.local. port 0',
      '1 AAAA slow.default.svc.cluster.local. port 0',
      '2 A slow. port 1',
      '2 AAAA slow. port 1',
    ]);
  });

  test('half an answer is one', () => {
    expect(lookUp('half').result).toEqual(['192.0.2.60']);
    expect(lookUp('aaaaonly').result).toEqual(['2001:db8::1']);
  });

  test('unless it asks one after the other: then the second question is not even asked', () => {
    const { result, lines } = lookUp('aaaaonly', { options: ['single-request'] });
    expect(result).toBe('EAI_AGAIN');
    expect(lines.slice(0, 4)).toEqual([
      '0 A aaaaonly.default.svc.cluster.local. port 0',
      '0 A aaaaonly.default.svc.cluster.local. port 1',
      '0 A aaaaonly.svc.cluster.local. port 2',
      '0 AAAA aaaaonly.svc.cluster.local. port 2',
    ]);
  });

  test('a lost answer costs a timeout, after which one question follows the other from the same port', () => {
    const { result, lines } = lookUp('lost');
    expect(result).toEqual(['192.0.2.60', '2001:db8::1']);
    expect(lines).toEqual([
      '0 A lost.default.svc.cluster.local. port 0',
      '0 AAAA lost.default.svc.cluster.local. port 0',
      '1 A lost.default.svc.cluster.local. port 0',
      '1 AAAA lost.default.svc.cluster.local. port 0',
    ]);
  });

  test('a name without data in one domain is looked for in the others', () => {
    const { result, lines } = lookUp('kube-system');
    expect([result, lines.length]).toEqual(['EAI_NODATA', 8]);
  });

  test('an alias of what nobody knows is no name', () => {
    expect(lookUp('alias')).toMatchObject({ result: 'EAI_NONAME', lines: { length: 2 } });
  });

  test('single-request-reopen asks from two ports', () => {
    expect(lookUp('web', { options: ['single-request-reopen'] }).lines).toEqual([
      '0 A web.default.svc.cluster.local. port 0',
      '0 AAAA web.default.svc.cluster.local. port 1',
    ]);
  });

  test('use-vc asks both over one TCP connection', () => {
    expect(lookUp('web', { options: ['use-vc'] }).lines).toEqual([
      '0 A web.default.svc.cluster.local. TCP',
      '0 AAAA web.default.svc.cluster.local. TCP',
    ]);
  });

  test('a name that is too long with the first domain is asked for as it is', () => {
    const name = Array.from({ length: 4 }, () => 'a'.repeat(60)).join('.'); // 243 bytes, and the first domain has 25
    expect(lookUp(name)).toEqual({ result: 'EAI_NONAME', lines: [`0 A ${name}. port 0`, `0 AAAA ${name}. port 0`] });
  });

  test.each(['', 'a..b', 'a'.repeat(64), Array.from({ length: 5 }, () => 'a'.repeat(60)).join('.')])(
    'what no message can carry is not asked for: %s',
    (name) => {
      expect(lookUp(name)).toEqual({ result: 'EAI_NONAME', lines: [] });
    },
  );

  test('rotate begins each question with the next server', () => {
    const lab = new StubLab({ servers: 2, script });
    const first = (name: string) =>
      lab.lookup(name, { libc: 'glibc', searches: [], options: ['rotate'] }).queries[0]!.server.ip;
    // A resolver of its own each time begins anywhere: over many, with both.
    const servers = new Set(Array.from({ length: 20 }, () => first('web.default.svc.cluster.local.')));
    expect(servers.size).toBe(2);
  });
});

describe('musl', () => {
  test('asks all servers at once, from one port', () => {
    expect(lookUp('web', { libc: 'musl', servers: 2 }).lines).toHaveLength(4);
  });

  test('half an answer is none', () => {
    const { result, lines } = lookUp('half', { libc: 'musl' });
    expect([result, lines.length]).toEqual(['EAI_NONAME', 8]);
  });

  test('no data, a failure and a timeout end the search', () => {
    expect(lookUp('kube-system', { libc: 'musl' })).toMatchObject({ result: 'EAI_NODATA', lines: { length: 4 } });
    expect(lookUp('slow', { libc: 'musl' })).toMatchObject({ result: 'EAI_AGAIN', lines: { length: 4 } });
    // Of 1 s: two questions, asked again at once as long as the server fails (four times), all that again at 0.5 s.
    expect(lookUp('bad', { libc: 'musl' })).toMatchObject({ result: 'EAI_AGAIN', lines: { length: 2 + 2 * (2 + 4) } });
  });

  test('a name with as many dots as ndots is never looked for in a domain', () => {
    expect(lookUp('web.default', { libc: 'musl', options: ['ndots:1'] }).lines).toEqual([
      '0 A web.default. port 0',
      '0 AAAA web.default. port 0',
    ]);
  });
});
