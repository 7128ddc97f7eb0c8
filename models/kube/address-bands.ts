// How the API server picks a ClusterIP or a node port that nobody asked for: at random from the upper, dynamic band of
// the range, so that the lower, static band stays free for addresses that people choose (KEP-3070, KEP-3668). Only when
// the dynamic band is full does it go below.

import { addressAt, addressCount, type Ip, type Prefix } from '../packet/ip-address.ts';

export interface Bands {
  /** How many addresses or ports there are to give. */
  readonly size: number;
  /** The first so many of them are the static band. */
  readonly staticSize: number;
}

/**
 * Service addresses of a range. The network's own address is never given, nor is the broadcast address, which IPv6 has
 * not (hostsPerNetwork and calculateRangeOffset of ipallocator).
 */
export function clusterIpBands(range: Prefix): Bands {
  const addresses = addressCount(range);
  const staticSize = addresses <= 16 ? 0 : Math.min(Math.max(16, Math.floor(addresses / 16)), 256);
  return { size: Math.max(0, addresses - (range.family === 4 ? 2 : 1)), staticSize };
}

/** The service address at an offset into the bands. */
export const clusterIpAt = (range: Prefix, offset: number): Ip => addressAt(range, offset + 1);

/** The API server's own Service, default/kubernetes, has the first address. */
export const kubernetesClusterIp = (range: Prefix): Ip => clusterIpAt(range, 0);

/** kubeadm gives the cluster's DNS the tenth (GetDNSIP). */
export const dnsClusterIp = (range: Prefix): Ip => clusterIpAt(range, 9);

export function nodePortBands(ports: number): Bands {
  return { size: ports, staticSize: ports <= 16 ? 0 : Math.min(Math.max(16, Math.floor(ports / 32)), 128) };
}

/** The first free offset from a random one on, around the dynamic band, then around the static one; or undefined. */
export function pickOffset(
  { size, staticSize }: Bands,
  draw: (choices: number) => number,
  isTaken: (offset: number) => boolean,
): number | undefined {
  return firstFree(staticSize, size, draw, isTaken) ?? firstFree(0, Math.min(staticSize, size), draw, isTaken);
}

function firstFree(
  first: number,
  end: number,
  draw: (choices: number) => number,
  isTaken: (offset: number) => boolean,
): number | undefined {
  if (end <= first) return undefined;
  const start = draw(end - first);
  for (let step = 0; step < end - first; step++) {
    const offset = first + ((start + step) % (end - first));
    if (!isTaken(offset)) return offset;
  }
  return undefined;
}
