// The plugin `bandwidth`: token buckets on both ways of a container's veth pair (plugins/meta/bandwidth of
// containernetworking/plugins).
//
// What a container sends the real plugin redirects to a device `ifb` of the node, which has the bucket; here the bucket is
// at the container's own end, in front of the same veth. Not modelled: shapedSubnets, unshapedSubnets.

import type { TokenBucketSettings } from '../../link/token-bucket.ts';
import { CNI_ERROR, CniError, failure, invalidConfig } from '../cni-error.ts';
import { vethOf } from '../container-veth.ts';
import { list, notModelled, wholeNumber } from '../options.ts';
import { type CniCall, cniPlugin } from '../plugin.ts';

/** In bits, and bits per second; 0 is no limit. Ingress is what the container receives. */
export interface BandwidthOptions {
  readonly ingressRate: number;
  readonly ingressBurst: number;
  readonly egressRate: number;
  readonly egressBurst: number;
  readonly shapedSubnets: readonly string[];
  readonly unshapedSubnets: readonly string[];
}

/** How long a frame may wait for the others before it (latencyInMillis). */
const LATENCY_S = 0.025;

export const bandwidth = cniPlugin<BandwidthOptions>({
  type: 'bandwidth',
  options: {
    ingressRate: wholeNumber(0),
    ingressBurst: wholeNumber(0),
    egressRate: wholeNumber(0),
    egressBurst: wholeNumber(0),
    shapedSubnets: list(),
    unshapedSubnets: list(),
  },

  add(call) {
    const { prevResult } = call;
    if (prevResult === undefined)
      throw new CniError(
        CNI_ERROR.invalidConfig,
        'plugin bandwidth: must be behind a plugin that connects the container',
      );
    const { ingress, egress } = bucketsOf(call);
    if (ingress === undefined && egress === undefined) return prevResult;
    const pair = vethOf(call);
    if (pair === undefined) throw failure(`plugin bandwidth: container ${call.containerId} has no veth ${call.ifName}`);
    if (ingress !== undefined) pair.outside.bucket = ingress;
    if (egress !== undefined) pair.inside.bucket = egress;
    return prevResult;
  },

  /** The buckets go with the veth pair. */
  del() {},

  check(call) {
    const { ingress, egress } = bucketsOf(call);
    const pair = vethOf(call);
    if (ingress?.rateBps !== pair?.outside.bucket?.rateBps || egress?.rateBps !== pair?.inside.bucket?.rateBps)
      throw failure(`plugin bandwidth: container ${call.containerId} is not limited as it should be`);
  },
});

function bucketsOf({ config, options }: CniCall<BandwidthOptions>) {
  for (const option of ['shapedSubnets', 'unshapedSubnets'] as const)
    if (options[option].length > 0) throw notModelled('plugin bandwidth', option, options[option]);
  const { bandwidth: given = options } = (config.runtimeConfig ?? {}) as { bandwidth?: Partial<BandwidthOptions> };
  return {
    ingress: bucketOf('ingress', given.ingressRate, given.ingressBurst),
    egress: bucketOf('egress', given.egressRate, given.egressBurst),
  };
}

function bucketOf(way: 'ingress' | 'egress', rateBps = 0, burstBits = 0): TokenBucketSettings | undefined {
  if (rateBps === 0 && burstBits === 0) return undefined;
  if (rateBps === 0 || burstBits === 0)
    throw invalidConfig(
      `plugin bandwidth: ${way}Rate ${rateBps} and ${way}Burst ${burstBits}: expected both or neither`,
    );
  const burstBytes = Math.floor(burstBits / 8);
  return { rateBps, burstBytes, limitBytes: Math.floor((rateBps / 8) * LATENCY_S) + burstBytes };
}
