// API objects from manifest files, as `kubectl apply -f` takes them and `kubectl get -o yaml` (or json) prints them:
// several documents, Lists, typed lists. Kinds that Podwire does not model are skipped and noted. The first wrong field
// is an error that names file, document and field; nothing is half read.

import type { ApiServer } from './api-server.ts';
import { ManifestError } from './manifest-error.ts';
import { notesAbout } from './manifest-notes.ts';
import { ObjectError } from './object-error.ts';
import { describeObject, type KubeObject, type Node } from './objects.ts';
import { apiVersionOf, isClusterScoped, modelledKind, parseManifest } from './schema.ts';
import { readYaml } from './yaml-text.ts';

export interface ManifestFile {
  /** As messages name it. */
  readonly name: string;
  readonly text: string;
}

/** Reads all files, or throws a ManifestError about the first thing that is wrong. */
export function readManifests(files: readonly ManifestFile[]): Manifests {
  const reader = new Reader();
  for (const { name, text } of files) {
    let empty = true;
    for (const { number, value } of readYaml(name, text)) {
      if (value === undefined) continue;
      empty = false;
      reader.read(value, { file: name, place: `document ${number}` });
    }
    if (empty) reader.notes.push(`${name}: holds no object`);
  }
  return reader.finish();
}

/** Objects, and where in which file each of them stands. */
export class Manifests {
  readonly objects: readonly KubeObject[];
  /** What was skipped and what looks like a mistake, one line each. */
  readonly notes: readonly string[];
  readonly #places: ReadonlyMap<string, string>;

  constructor(objects: readonly KubeObject[], notes: readonly string[], places: ReadonlyMap<string, string>) {
    this.objects = objects;
    this.notes = notes;
    this.#places = places;
  }

  /** `shop.yaml: document 3 (Service default/web)`; for an object of no file, its name. */
  placeOf(object: KubeObject): string {
    return placed(this.#places.get(describeObject(object)), object);
  }

  /**
   * Adds all objects to the API server, or none: addresses that two of them want, or that no range has, are a
   * ManifestError. `nodes` stand in for the Nodes of the files: those and more, with addresses (see nodesFor).
   */
  applyTo(apiServer: ApiServer, nodes?: readonly Node[]): void {
    const objects =
      nodes === undefined ? this.objects : [...nodes, ...this.objects.filter(({ kind }) => kind !== 'Node')];
    this.locating(() => apiServer.createAll(objects));
  }

  /** Runs `action`; an ObjectError about an object of these files comes out as a ManifestError with file and document. */
  locating<Result>(action: () => Result): Result {
    try {
      return action();
    } catch (error) {
      if (error instanceof ObjectError) throw new ManifestError(`${this.placeOf(error.object)}: ${error.problem}`);
      throw error;
    }
  }
}

const placed = (place: string | undefined, object: KubeObject): string =>
  place === undefined ? describeObject(object) : `${place} (${describeObject(object)})`;

interface Position {
  readonly file: string;
  /** `document 2`, or `document 2: items[5]` within a List. */
  readonly place: string;
}

class Reader {
  readonly notes: string[] = [];
  readonly #objects: KubeObject[] = [];
  readonly #places = new Map<string, string>();
  /** Objects of kinds that are not modelled: file and kind, to the place of the first and the number of them. */
  readonly #skipped = new Map<string, { readonly first: Position; readonly kind: string; count: number }>();

  read(value: unknown, at: Position): void {
    const { apiVersion, kind } = this.#typeOf(value, at);
    const items = kind.endsWith('List') ? fieldOf(value, 'items') : undefined;
    if (kind === 'List' || Array.isArray(items)) return this.#readItems(items, kind.slice(0, -'List'.length), at);
    const modelled = modelledKind(apiVersion, kind);
    if (modelled === undefined) return this.#skip(apiVersion, kind, at);
    const parsed = parseManifest(modelled, value);
    const place = `${at.file}: ${at.place}`;
    if ('problem' in parsed) {
      const { field, expected, got } = parsed.problem;
      throw new ManifestError(`${place} (${nameOf(kind, value)}): ${field}: expected ${expected}, got ${got}`);
    }
    const object: KubeObject = parsed.object;
    const before = this.#places.get(describeObject(object));
    if (before !== undefined) {
      throw new ManifestError(`${placed(place, object)}: metadata.name: stands already at ${before}`);
    }
    this.#places.set(describeObject(object), place);
    this.#objects.push(object);
  }

  finish(): Manifests {
    for (const { first, kind, count } of this.#skipped.values()) {
      const others = count > 1 ? ` and ${count - 1} more` : '';
      this.notes.push(`${first.file}: ${first.place}${others}: kind ${kind} is not modelled; skipped`);
    }
    const found = notesAbout(this.#objects, (object) => placed(this.#places.get(describeObject(object)), object));
    return new Manifests(this.#objects, [...this.notes, ...found], this.#places);
  }

  #typeOf(value: unknown, { file, place }: Position): { apiVersion: string; kind: string } {
    if (!(value instanceof Object) || Array.isArray(value)) {
      throw new ManifestError(`${file}: ${place}: expected an object with apiVersion and kind, got ${brief(value)}`);
    }
    const [apiVersion, kind] = [fieldOf(value, 'apiVersion'), fieldOf(value, 'kind')];
    for (const [field, found] of [['kind', kind] as const, ['apiVersion', apiVersion] as const]) {
      if (typeof found === 'string' && found !== '') continue;
      throw new ManifestError(`${file}: ${place}: ${field}: expected a string, got ${brief(found)}`);
    }
    return { apiVersion: String(apiVersion), kind: String(kind) };
  }

  /** Items of a typed list (PodList) leave out what its kind says already. */
  #readItems(items: unknown, itemKind: string, at: Position): void {
    if (items === undefined) return;
    if (!Array.isArray(items))
      throw new ManifestError(`${at.file}: ${at.place}: items: expected a list, got ${brief(items)}`);
    const implied = itemKind === '' ? {} : { apiVersion: apiVersionOf(itemKind) ?? 'unknown', kind: itemKind };
    for (const [index, item] of items.entries()) {
      const typed: unknown = item instanceof Object && !Array.isArray(item) ? { ...implied, ...item } : item;
      this.read(typed, { file: at.file, place: `${at.place}: items[${index}]` });
    }
  }

  #skip(apiVersion: string, kind: string, at: Position): void {
    // A kind of the right name in another API group is another kind: Knative has its own Service.
    const name = apiVersionOf(kind) === undefined ? `"${kind}"` : `"${kind}" of ${apiVersion}`;
    const key = `${at.file} ${name}`;
    const skipped = this.#skipped.get(key) ?? { first: at, kind: name, count: 0 };
    skipped.count++;
    this.#skipped.set(key, skipped);
  }
}

/** `Service default/web`, as far as an object that is wrong somewhere says it. */
function nameOf(kind: string, value: unknown): string {
  const metadata = fieldOf(value, 'metadata');
  const name = fieldOf(metadata, 'name');
  if (typeof name !== 'string') return kind;
  const namespace = fieldOf(metadata, 'namespace') ?? 'default';
  return isClusterScoped(kind) ? `${kind} ${name}` : `${kind} ${String(namespace)}/${name}`;
}

function fieldOf(value: unknown, field: string): unknown {
  return value instanceof Object ? Reflect.get(value, field) : undefined;
}

function brief(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'a list';
  return value instanceof Object ? 'a map' : JSON.stringify(value).slice(0, 60);
}
