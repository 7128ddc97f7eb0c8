// Messages of a workload as words, for frames that go from one worker to another.

import type { RecordReader, RecordWriter } from '../../engine/parallel/records.ts';
import type { Message } from '../packet/frame.ts';
import { type MessageRecords, putIp, takeIp } from '../packet/frame-record.ts';
import type { IpFamily } from '../packet/ip-address.ts';
import { isRequest, isResponse, type Response } from './message.ts';

/** A size and a number, and nothing else. */
const PLAIN = 0;
const REQUEST = 1;
const REQUEST_OF_SIZE = 2;
const RESPONSE = 3;
const RESPONSE_IPV6 = 4;
/** What a response of HTTP says follows as JSON. */
const HTTP_RESPONSE = 5;
const HTTP_RESPONSE_IPV6 = 6;
/** Bytes, as of DNS. */
const BYTES = 7;
/** Anything else, as JSON. */
const OTHER = 8;

export const messageRecords: MessageRecords = {
  write(message: Message, to: RecordWriter): void {
    if (isRequest(message) && message.http === undefined) {
      const { id, sizeBytes, responseBytes } = message;
      to.put(responseBytes === undefined ? REQUEST : REQUEST_OF_SIZE);
      to.put(id);
      to.put(sizeBytes);
      if (responseBytes !== undefined) to.put(responseBytes);
    } else if (isResponse(message)) {
      const { id, sizeBytes, server, sourceSeen, sourceFamily, http, forwardedFor } = message;
      if (http === undefined) to.put(sourceFamily === 4 ? RESPONSE : RESPONSE_IPV6);
      else to.put(sourceFamily === 4 ? HTTP_RESPONSE : HTTP_RESPONSE_IPV6);
      to.put(id);
      to.put(sizeBytes);
      to.putText(server);
      putIp(to, sourceSeen, sourceFamily);
      if (http !== undefined) to.putLoneText(JSON.stringify({ http, forwardedFor }));
    } else if (message.bytes !== undefined) {
      to.put(BYTES);
      to.put(message.id);
      to.put(message.sizeBytes);
      to.putLoneText(String.fromCharCode(...message.bytes));
    } else if (isPlain(message)) {
      to.put(PLAIN);
      to.put(message.id);
      to.put(message.sizeBytes);
    } else {
      to.put(OTHER);
      to.putLoneText(JSON.stringify(message));
    }
  },

  read(from: RecordReader): Message {
    const kind = from.take();
    switch (kind) {
      case PLAIN: {
        const id = from.take();
        return { id, sizeBytes: from.take() };
      }
      case REQUEST:
      case REQUEST_OF_SIZE: {
        const id = from.take();
        const sizeBytes = from.take();
        const responseBytes = kind === REQUEST ? undefined : from.take();
        return { kind: 'request', id, sizeBytes, responseBytes, http: undefined } as Message;
      }
      case RESPONSE:
      case RESPONSE_IPV6:
        return takeResponse(from, kind === RESPONSE ? 4 : 6);
      case HTTP_RESPONSE:
      case HTTP_RESPONSE_IPV6:
        return { ...takeResponse(from, kind === HTTP_RESPONSE ? 4 : 6), ...JSON.parse(from.takeLoneText()) };
      case BYTES: {
        const id = from.take();
        const sizeBytes = from.take();
        return { id, sizeBytes, bytes: Uint8Array.from(from.takeLoneText(), (letter) => letter.charCodeAt(0)) };
      }
      default:
        return JSON.parse(from.takeLoneText());
    }
  },
};

function isPlain(message: Message): boolean {
  for (const field in message) if (field !== 'id' && field !== 'sizeBytes') return false;
  return (message.id | 0) === message.id && (message.sizeBytes | 0) === message.sizeBytes;
}

function takeResponse(from: RecordReader, sourceFamily: IpFamily): Response {
  const id = from.take();
  const sizeBytes = from.take();
  const server = from.takeText();
  return { kind: 'response', id, sizeBytes, server, sourceSeen: takeIp(from, sourceFamily), sourceFamily };
}
