// DNS records and messages as lines of text, in the form of master files (RFC 1035 section 5) and of dig.

import type { DnsMessage, Question, RecordData, ResourceRecord } from './message.ts';

/** `web.shop.svc.cluster.local. 30 IN A 10.96.7.20`. */
export const formatRecord = (record: ResourceRecord): string =>
  `${record.name} ${record.ttlSeconds} IN ${record.type} ${formatData(record)}`;

/** What stands after the type: `0 100 80 web.shop.svc.cluster.local.`. */
export function formatData(data: RecordData): string {
  switch (data.type) {
    case 'A':
    case 'AAAA':
      return data.address;
    case 'CNAME':
    case 'NS':
    case 'PTR':
      return data.target;
    case 'SRV':
      return `${data.priority} ${data.weight} ${data.port} ${data.target}`;
    case 'MX':
      return `${data.preference} ${data.exchange}`;
    case 'TXT':
      return data.texts.map((text) => JSON.stringify(text)).join(' ');
    case 'SOA': {
      const { primary, mailbox, serial, refreshSeconds, retrySeconds, expireSeconds, minimumSeconds } = data;
      return [primary, mailbox, serial, refreshSeconds, retrySeconds, expireSeconds, minimumSeconds].join(' ');
    }
    default: {
      const hex = Array.from(data.bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
      return `\\# ${data.bytes.length}${hex === '' ? '' : ` ${hex}`}`; // RFC 3597 section 5
    }
  }
}

export const formatQuestion = ({ name, type }: Question): string => `${type} ${name}`;

/** A message over several lines: the header, then a line per record and section. */
export function formatMessage(message: DnsMessage): string {
  const flags = [
    message.isResponse && 'qr',
    message.isAuthoritative && 'aa',
    message.isTruncated && 'tc',
    message.recursionDesired && 'rd',
    message.recursionAvailable && 'ra',
  ].filter((flag) => flag !== false);
  const sections = [
    ['answer', message.answers],
    ['authority', message.authority],
    ['additional', message.additional],
  ] as const;
  return [
    `${message.rcode}, id ${message.id}, ${flags.join(' ') || 'no flags'}`,
    ...message.questions.map((question) => `question ${formatQuestion(question)}`),
    ...sections.flatMap(([name, records]) => records.map((record) => `${name} ${formatRecord(record)}`)),
  ].join('\n');
}
