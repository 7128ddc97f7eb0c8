// API objects in files of recorded facts. They come from tests of programs, which no API server has looked at: names may
// have capitals, and ports no number. All else is checked as in a manifest, and an unknown field is an error where it
// could change what a proxy does.

import { z } from 'zod';
import {
  type EndpointSlice,
  type NetworkPolicy,
  type ObjectOf,
  objectFrom,
  type Pod,
  type Service,
} from '../kube/objects.ts';
import { parseManifest } from '../kube/schema.ts';

type RecordedKind = 'Service' | 'EndpointSlice' | 'NetworkPolicy' | 'Pod';

const recordedObject = <K extends RecordedKind>(kind: K): z.ZodType<ObjectOf<K>> =>
  z.unknown().transform((manifest, context) => {
    const { admissible, name } = admit(manifest);
    const parsed = parseManifest(kind, admissible);
    const complain = (path: readonly PropertyKey[], message: string) => {
      context.addIssue({ code: 'custom', path: [...path], message });
      return z.NEVER;
    };
    if ('problem' in parsed) return complain(pathOf(parsed.problem.field), parsed.problem.expected);
    const unknown = unknownField(admissible, parsed.object, []);
    if (unknown !== undefined) return complain(unknown, `only known fields of a ${kind}`);
    const object = parsed.object as ObjectOf<K>;
    return { ...object, metadata: { ...object.metadata, name } };
  });

export const recordedService: z.ZodType<Service> = recordedObject('Service');
export const recordedSlice: z.ZodType<EndpointSlice> = recordedObject('EndpointSlice');
export const recordedPolicy: z.ZodType<NetworkPolicy> = recordedObject('NetworkPolicy');
/** Containers are of no account to whoever looks at a pod's addresses. */
export const recordedPod: z.ZodType<Pod> = z.preprocess(
  (manifest) => (manifest instanceof Object ? { spec: { containers: [{ name: 'main' }] }, ...manifest } : manifest),
  recordedObject('Pod'),
);
/** A Service that may have an address and no ports, as no API server would take it. */
export const recordedServiceOfAnyPorts: z.ZodType<Service> = z.unknown().transform((manifest, context) => {
  const shape = nameAndPorts.safeParse(manifest);
  const spec = shape.success ? shape.data.spec : undefined;
  const isPortless = spec !== undefined && spec.ports === undefined;
  const parsed = recordedService.safeParse(
    isPortless ? { ...shape.data, spec: { ...spec, ports: [{ port: 1 }] } } : manifest,
  );
  if (!parsed.success) {
    for (const { path, message } of parsed.error.issues) context.addIssue({ code: 'custom', path: [...path], message });
    return z.NEVER;
  }
  return isPortless ? { ...parsed.data, spec: { ...parsed.data.spec, ports: [] } } : parsed.data;
});

/** The manifest as an API server would let it pass, and the name that it had. */
function admit(manifest: unknown): { readonly admissible: unknown; readonly name: string } {
  const shape = nameAndPorts.safeParse(manifest);
  if (!shape.success) return { admissible: manifest, name: '' };
  const { metadata, spec, ...rest } = shape.data;
  const named = { ...rest, metadata: { ...metadata, name: metadata.name.toLowerCase() } };
  if (spec?.ports === undefined)
    return { admissible: spec === undefined ? named : { ...named, spec }, name: metadata.name };
  const ports = spec.ports.map((port) => ('port' in port ? port : { ...port, port: port.targetPort }));
  return { admissible: { ...named, spec: { ...spec, ports } }, name: metadata.name };
}

const nameAndPorts = z.looseObject({
  metadata: z.looseObject({ name: z.string() }),
  spec: z.looseObject({ ports: z.array(z.looseObject({})).optional() }).optional(),
});

/** `spec.ports[0].port` as its parts. */
const pathOf = (field: string): (string | number)[] =>
  (field.match(/[^.[\]"]+/g) ?? []).map((part) => (/^\d+$/.test(part) ? Number(part) : part));

/** What a proxy does not look at, or not any more. */
const IGNORED =
  /^(metadata|status\.conditions|spec\.(loadBalancerIP|loadBalancerClass)|endpoints\.deprecatedTopology)$/;

/** The path of a field that the schema has dropped. */
function unknownField(given: unknown, parsed: unknown, path: readonly (string | number)[]): typeof path | undefined {
  if (!(given instanceof Object)) return undefined;
  for (const key of Object.keys(given)) {
    const inner = [...path, Array.isArray(given) ? Number(key) : key];
    if (IGNORED.test(inner.filter((part) => typeof part === 'string').join('.'))) continue;
    if (!(parsed instanceof Object && Object.hasOwn(parsed, key))) return inner;
    const found = unknownField(Reflect.get(given, key), Reflect.get(parsed, key), inner);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** A Service in front of these ports, of which only names and protocols matter. */
export function serviceWithPorts(
  { namespace, name }: { readonly namespace: string; readonly name: string },
  ports: readonly {
    readonly name?: string | undefined;
    readonly protocol: Service['spec']['ports'][number]['protocol'];
  }[],
): Service {
  const service = objectFrom('Service', {
    metadata: { namespace, name },
    spec: { clusterIP: '10.96.0.10', clusterIPs: ['10.96.0.10', 'fd00:96::10'], ports: [{ port: 1 }] },
  });
  const numbered = ports.map((port, i) => ({ ...service.spec.ports[0]!, ...port, port: 1 + i }));
  return { ...service, spec: { ...service.spec, ports: numbered } };
}
