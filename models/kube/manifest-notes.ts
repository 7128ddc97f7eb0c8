// What in a set of manifests works, but probably not as meant. A note is one line that names file, document and field.

import { routeNotes } from './http/route-notes.ts';
import { LabelIndex } from './label-index.ts';
import { describeObject, type KubeObject, type Labels, type PodSpec, type Service } from './objects.ts';

/** What a Service may select: a pod, or the template of a workload that will make pods. */
interface Candidate {
  readonly labels: Labels;
  readonly spec: PodSpec;
}

export function notesAbout(objects: readonly KubeObject[], placeOf: (object: KubeObject) => string): string[] {
  const candidates = new LabelIndex<Candidate>();
  const notes: string[] = [];
  for (const object of objects) {
    const candidate = candidateOf(object);
    if (candidate === undefined || !('namespace' in object.metadata)) continue;
    candidates.add(object.metadata.namespace, candidate.labels, candidate);
    for (const note of placementNotes(candidate.spec)) notes.push(`${placeOf(object)}: ${note}`);
  }
  const names = new Set(objects.map(describeObject));
  for (const object of objects) for (const note of routeNotes(object, names)) notes.push(`${placeOf(object)}: ${note}`);
  for (const object of objects) {
    if (object.kind !== 'Service') continue;
    const { selector, type } = object.spec;
    if (Object.keys(selector).length === 0 || type === 'ExternalName') continue;
    const selected = candidates.select(object.metadata.namespace, selector);
    for (const note of serviceNotes(object, selected)) notes.push(`${placeOf(object)}: ${note}`);
  }
  return notes;
}

function candidateOf(object: KubeObject): Candidate | undefined {
  switch (object.kind) {
    case 'Pod':
      return { labels: object.metadata.labels, spec: object.spec };
    case 'Deployment':
    case 'ReplicaSet':
    case 'StatefulSet':
    case 'DaemonSet':
      return { labels: object.spec.template.metadata.labels, spec: object.spec.template.spec };
    default:
      return undefined;
  }
}

function serviceNotes({ spec }: Service, selected: readonly Candidate[]): string[] {
  if (selected.length === 0) {
    const selector = Object.entries(spec.selector).map(([key, value]) => `${key}=${value}`);
    return [`spec.selector: ${selector.join(',')} matches no pod, so the Service has no endpoints`];
  }
  const notes: string[] = [];
  for (const [index, { targetPort, protocol }] of spec.ports.entries()) {
    if (typeof targetPort === 'number') continue;
    const named = selected.some((candidate) =>
      candidate.spec.containers
        .concat(candidate.spec.initContainers)
        .some(({ ports }) => ports.some((port) => port.name === targetPort && port.protocol === protocol)),
    );
    if (!named)
      notes.push(`spec.ports[${index}].targetPort: no selected pod has a ${protocol} port named "${targetPort}"`);
  }
  return notes;
}

/** Placement rules that the scheduler of this model does not know; no matter for a pod that has its node already. */
function placementNotes(spec: PodSpec): string[] {
  if (spec.nodeName !== undefined) return [];
  const ignored = (['affinity', 'topologySpreadConstraints'] as const).filter((field) => spec[field] !== undefined);
  return ignored.map((field) => `spec.${field}: is not modelled; pods are spread over the nodes`);
}
