// The shape of a CiliumEgressGatewayPolicy (cilium.io/v2), as far as egress-gateways.ts reads it.

import { clusterMetadata, ipAddress, ipPrefix, labelSelector, listOf, z } from './fields.ts';

export const egressGatewayPolicy = z.object({
  apiVersion: z.literal('cilium.io/v2').optional(),
  kind: z.literal('CiliumEgressGatewayPolicy'),
  metadata: clusterMetadata,
  spec: z.object({
    selectors: z
      .array(z.object({ podSelector: labelSelector.optional(), namespaceSelector: labelSelector.optional() }))
      .min(1, 'at least one selector'),
    destinationCIDRs: z.array(ipPrefix).min(1, 'at least one range'),
    excludedCIDRs: listOf(ipPrefix),
    egressGateway: z
      .object({
        nodeSelector: labelSelector,
        interface: z.string().optional(),
        egressIP: ipAddress.optional(),
      })
      .refine((given) => given.interface === undefined || given.egressIP === undefined, {
        path: ['interface'],
        message: 'none beside egressIP',
      })
      .refine((given) => given.interface === undefined, {
        path: ['interface'],
        message: 'none, as interfaces by name are not modelled',
      }),
  }),
});
