// How kube-proxy tells traffic of its own node's pods from other traffic (`--detect-local-mode`). Only then can it
// masquerade what comes to a cluster IP from outside, and let pods skip policy Local.

import type { RuleSpec } from '../../netfilter/rule.ts';
import type { Prefix } from '../../packet/ip-address.ts';

/** `None` is kube-proxy without `--cluster-cidr`: it cannot tell. */
export type LocalDetector =
  | { readonly mode: 'ClusterCIDR' | 'NodeCIDR'; readonly cidr: Prefix }
  | { readonly mode: 'BridgeInterface'; readonly device: string }
  | { readonly mode: 'InterfaceNamePrefix'; readonly prefix: string }
  | { readonly mode: 'None' };

type SourceMatch = Pick<RuleSpec, 'source' | 'sourceNegated' | 'inDevice' | 'inDeviceNegated'>;

/** What a rule selects local pods' traffic by; undefined if that cannot be told. */
export function fromLocalPods(detector: LocalDetector): SourceMatch | undefined {
  switch (detector.mode) {
    case 'ClusterCIDR':
    case 'NodeCIDR':
      return { source: detector.cidr };
    case 'BridgeInterface':
      return { inDevice: detector.device };
    case 'InterfaceNamePrefix':
      return { inDevice: `${detector.prefix}+` };
    case 'None':
      return undefined;
  }
}

/** What a rule selects all other traffic by; undefined if that cannot be told. */
export function notFromLocalPods(detector: LocalDetector): SourceMatch | undefined {
  const local = fromLocalPods(detector);
  if (local === undefined) return undefined;
  return local.source === undefined ? { ...local, inDeviceNegated: true } : { ...local, sourceNegated: true };
}
