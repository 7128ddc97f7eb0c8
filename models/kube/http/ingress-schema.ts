// The shape of an Ingress and of its class (networking.k8s.io/v1). What the API server refuses beyond it is in
// ingress-validation.ts.

import { clusterMetadata, ipAddress, listOf, metadata, portNumber, z } from '../fields.ts';

const backend = z.object({
  service: z
    .object({
      name: z.string(),
      /** Number 0 and name "" are "none given". */
      port: z
        .object({
          name: z
            .string()
            .transform((name) => name || undefined)
            .optional(),
          number: portNumber
            .or(z.literal(0))
            .transform((number) => number || undefined)
            .optional(),
        })
        .prefault({}),
    })
    .optional(),
  /** Something else that a controller may know, as a bucket of a cloud. */
  resource: z.object({ apiGroup: z.string().optional(), kind: z.string(), name: z.string() }).optional(),
});

export const ingress = z.object({
  apiVersion: z.literal('networking.k8s.io/v1').optional(),
  kind: z.literal('Ingress'),
  metadata,
  spec: z
    .object({
      ingressClassName: z.string().optional(),
      defaultBackend: backend.optional(),
      tls: listOf(z.object({ hosts: listOf(z.string()), secretName: z.string().optional() })),
      rules: listOf(
        z.object({
          /** "" is "every host". */
          host: z
            .string()
            .transform((host) => host || undefined)
            .optional(),
          http: z
            .object({
              paths: listOf(
                z.object({
                  path: z.string().default(''),
                  pathType: z.enum(['Exact', 'Prefix', 'ImplementationSpecific']),
                  backend,
                }),
              ),
            })
            .optional(),
        }),
      ),
    })
    .prefault({}),
  status: z
    .object({
      loadBalancer: z
        .object({
          ingress: listOf(z.object({ ip: ipAddress.optional(), hostname: z.string().optional() })),
        })
        .prefault({}),
    })
    .prefault({}),
});

export const ingressClass = z.object({
  apiVersion: z.literal('networking.k8s.io/v1').optional(),
  kind: z.literal('IngressClass'),
  metadata: clusterMetadata,
  spec: z.object({ controller: z.string().min(1, 'a name such as example.com/ingress-controller') }),
});
