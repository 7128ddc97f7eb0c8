// Options of the commands that send requests: who asks whom, by which protocol.

import type { Cluster } from '../../models/cluster.ts';
import { outsideClientIp } from '../../models/host/outside-world.ts';
import type { Process } from '../../models/host/process.ts';
import { isUrl, resolveUrl } from '../../models/kube/http/url-target.ts';
import { resolveTarget, type Target } from '../../models/kube/target.ts';
import { LOOPBACK_IP, LOOPBACK_IPV6 } from '../../models/packet/ip-address.ts';
import type { HttpRequest } from '../../models/workload/http.ts';
import { UserError } from '../harness/user-error.ts';
import { type Command, collect, optionValue } from './command-line.ts';
import { addFamilyChoice, type FamilyChoice } from './manifest-options.ts';

export interface RequestOptions extends FamilyChoice {
  readonly from: string;
  readonly to: string;
  readonly protocol: 'tcp' | 'udp';
  /** Of a URL. */
  readonly method?: string;
  readonly header?: readonly string[];
}

export function addRequestOptions(command: Command): Command {
  return addFamilyChoice(command, "IP family of the target's address, where it has two")
    .requiredOption('--from <sender>', 'a pod as NAMESPACE/NAME, a node, or outside: the client beyond the gateway')
    .requiredOption(
      '--to <target>',
      'a Service, pod, node, IP address, localhost or outside, and :PORT as number or name (default: its first); or http://HOST/PATH for what an Ingress or a Gateway serves',
    )
    .option('--method <method>', 'of a request to a URL (default: GET)')
    .option('--header <header>', "of a request to a URL, as 'x-version: 2'; may be repeated", collect)
    .option('--protocol <protocol>', 'tcp or udp', optionValue(parseProtocol), 'tcp');
}

export interface RequestToSend {
  readonly sender: Process;
  readonly target: Target;
  /** Of a URL. */
  readonly http?: HttpRequest;
}

/** Sender and target in this cluster. Throws a UserError for one that it does not have. */
export function requestIn(cluster: Cluster, options: RequestOptions): RequestToSend {
  const { from, to, protocol, family, method, header = [] } = options;
  const sender = senderIn(cluster, from);
  const defaultNamespace = from.includes('/') ? from.slice(0, from.indexOf('/')) : 'default';
  const wanted = { defaultNamespace, protocol: protocol === 'tcp' ? 'TCP' : 'UDP', family } as const;
  if (isUrl(to)) {
    if (protocol === 'udp') throw new UserError(`--protocol udp: expected tcp, as --to is a URL`);
    const request = {
      headers: Object.fromEntries(header.map(parseHeader)),
      ...(method && { method: parseMethod(method) }),
    };
    return { sender, ...resolveUrl(cluster.api, to, request, wanted) };
  }
  for (const [option, value] of [['--method', method] as const, ['--header', header[0]] as const])
    if (value !== undefined)
      throw new UserError(`${option} ${value}: expected --to to be a URL, as in http://shop.example.com/`);
  return { sender, target: specialTarget(cluster, to, wanted) ?? resolveTarget(cluster.api, to, wanted) };
}

/** `localhost:8080`, the sender's own network namespace, and `outside:443`, where a server then answers. */
function specialTarget(
  cluster: Cluster,
  text: string,
  {
    protocol,
    family = cluster.ipFamilies[0]!,
  }: { readonly protocol: 'TCP' | 'UDP'; readonly family: FamilyChoice['family'] | undefined },
): Target | undefined {
  const [, name, portText] = /^(localhost|outside):(\d+)$/.exec(text) ?? [];
  if (name === undefined) return undefined;
  const port = Number(portText);
  if (port < 1 || port > 65_535)
    throw new UserError(`--to ${text}: port "${portText}"; expected a number from 1 to 65535`);
  if (name === 'localhost') return { family, ip: family === 4 ? LOOPBACK_IP : LOOPBACK_IPV6, port };
  cluster.serveOutside(protocol, port);
  return { family, ip: outsideClientIp(family), port };
}

function parseHeader(text: string): [string, string] {
  const [, name, value] = /^([A-Za-z0-9!#$%&'*+\-.^_`|~]+):\s*(.*)$/.exec(text) ?? [];
  if (name === undefined) throw new UserError(`--header ${text}: expected a header such as 'x-version: 2'`);
  return [name, value!];
}

function parseMethod(text: string): string {
  if (!/^[A-Za-z]+$/.test(text)) throw new UserError(`--method ${text}: expected a method such as POST`);
  return text.toUpperCase();
}

/** Throws a UserError that lists whom there is. */
export function senderIn(cluster: Cluster, name: string): Process {
  if (name === 'outside') return cluster.outside.client;
  const key = name.includes('/') ? name : `default/${name}`;
  const found =
    cluster.pods.find((pod) => pod.name === key) ?? cluster.nodes.find((node) => node.name === name)?.process;
  if (found !== undefined) return found;
  const names = ['outside', ...[...cluster.nodes, ...cluster.pods].map((candidate) => candidate.name)];
  const more = names.length > NAMES_SHOWN ? ', …' : '';
  throw new UserError(
    `--from ${name}: no pod ${key} runs, and no node has that name; there are: ${names.slice(0, NAMES_SHOWN).join(', ')}${more}`,
  );
}

const NAMES_SHOWN = 20;

function parseProtocol(text: string): 'tcp' | 'udp' {
  if (text !== 'tcp' && text !== 'udp') throw new RangeError('Expected tcp or udp.');
  return text;
}
