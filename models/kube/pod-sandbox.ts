// What a pod's object asks of the network of its node: its name there, addresses that it has already, host ports, bandwidth.

import { appended } from '../../engine/appended.ts';
import type { PortMapping } from '../cni/port-mapping.ts';
import { podHostname } from '../dns/pod-hosts.ts';
import { parseAddress } from '../packet/ip-address.ts';
import type { PodBandwidth, PodSandbox } from './kubelet.ts';
import { ObjectError } from './object-error.ts';
import { type Pod, podIpsOf } from './objects.ts';

/** Throws an ObjectError for a bandwidth that is no quantity. */
export function sandboxOf(pod: Pod): PodSandbox {
  if (pod.spec.hostNetwork) return { hostNetwork: true };
  const requestedIps = podIpsOf(pod).map(parseAddress);
  const portMappings = portMappingsOf(pod);
  const { name } = pod.metadata;
  return {
    hostname: podHostname({ name, hostname: pod.spec.hostname }),
    ...(requestedIps.length > 0 && { requestedIps }),
    ...(portMappings.length > 0 && { portMappings }),
    bandwidth: bandwidthOf(pod),
  };
}

function portMappingsOf({ spec: { containers } }: Pod): readonly PortMapping[] {
  let found: readonly PortMapping[] = NO_PORT_MAPPINGS;
  for (const { ports } of containers) {
    for (const { hostPort, containerPort, protocol, hostIP } of ports) {
      if (hostPort === undefined) continue;
      const mapping = { hostPort, containerPort, protocol: protocol.toLowerCase() };
      found = appended(found, hostIP === undefined ? mapping : { ...mapping, hostIP });
    }
  }
  return found;
}

const NO_PORT_MAPPINGS: readonly PortMapping[] = [];

const INGRESS = 'kubernetes.io/ingress-bandwidth';
const EGRESS = 'kubernetes.io/egress-bandwidth';

/** What kubelets give for "no limit", in bits (math.MaxInt32). */
const KUBELET_BURST = 2 ** 31 - 1;

function bandwidthOf(pod: Pod): PodBandwidth | undefined {
  const [ingressRate, egressRate] = [INGRESS, EGRESS].map((annotation) => rateOf(pod, annotation));
  if (ingressRate === undefined && egressRate === undefined) return undefined;
  return {
    ...(ingressRate !== undefined && { ingressRate, ingressBurst: KUBELET_BURST }),
    ...(egressRate !== undefined && { egressRate, egressBurst: KUBELET_BURST }),
  };
}

/** Bits per second. */
function rateOf(pod: Pod, annotation: string): number | undefined {
  const text = pod.metadata.annotations[annotation];
  if (text === undefined) return undefined;
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)(k|Ki|M|Mi|G|Gi|T|Ti)?$/.exec(text) ?? [];
  const rate = Math.ceil(Number(number) * UNITS[unit as keyof typeof UNITS]);
  // The kubelet's limits: 1k and 1P.
  if (!(rate >= 1e3 && rate <= 1e15))
    throw new ObjectError(pod, `metadata.annotations["${annotation}"]: expected a quantity such as 10M, got "${text}"`);
  return rate;
}

const UNITS = { '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 } as const;
