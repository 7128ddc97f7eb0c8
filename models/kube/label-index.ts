// Who carries which labels: selectors, and an index that answers them without asking every object.

import type { LabelSelector, Labels } from './objects.ts';

/** A Service's selector or a nodeSelector: every label must be there with that value. An empty one matches everything. */
export function matchesLabels(selector: Labels, labels: Labels): boolean {
  for (const key in selector) if (labels[key] !== selector[key]) return false;
  return true;
}

/** A workload's selector: all its labels and all its expressions. */
export function matchesSelector({ matchLabels, matchExpressions }: LabelSelector, labels: Labels): boolean {
  return matchesLabels(matchLabels, labels) && matchExpressions.every((expression) => holds(expression, labels));
}

function holds({ key, operator, values }: LabelSelector['matchExpressions'][number], labels: Labels): boolean {
  const value = labels[key];
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}

/** `default/app=web` for each label. */
export function labelNames(namespace: string, labels: Labels): readonly string[] {
  if (latest.labels !== labels || latest.namespace !== namespace) {
    const names: string[] = [];
    for (const key in labels) names.push(`${namespace}/${key}=${labels[key]}`);
    Object.assign(latest, { namespace, labels, names });
  }
  return latest.names;
}

/** Pods of one template have the same labels, and come one after the other. */
const latest = { namespace: '', labels: {} as Labels, names: [] as readonly string[] };

/** Items of many namespaces by their labels. */
export class LabelIndex<Item> {
  readonly #byLabel = new Map<string, Map<Item, Labels>>();

  add(namespace: string, labels: Labels, item: Item): void {
    for (const label of labelNames(namespace, labels)) {
      const items = this.#byLabel.get(label);
      if (items === undefined) this.#byLabel.set(label, new Map([[item, labels]]));
      else items.set(item, labels);
    }
  }

  /** Takes the labels that the item was added with. */
  delete(namespace: string, labels: Labels, item: Item): void {
    for (const label of labelNames(namespace, labels)) {
      const items = this.#byLabel.get(label);
      items?.delete(item);
      if (items?.size === 0) this.#byLabel.delete(label);
    }
  }

  /** Items of the namespace that a non-empty selector matches, in the order in which they were added. */
  select(namespace: string, selector: Labels): Item[] {
    const rarest = Object.entries(selector)
      .map(([key, value]) => this.#byLabel.get(`${namespace}/${key}=${value}`))
      .reduce((least, items) => ((items?.size ?? 0) < (least?.size ?? 0) ? items : least));
    const selected: Item[] = [];
    for (const [item, labels] of rarest ?? []) if (matchesLabels(selector, labels)) selected.push(item);
    return selected;
  }
}
