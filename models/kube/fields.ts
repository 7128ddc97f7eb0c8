// Fields that many kinds have, and what may stand in them. The one file that imports zod: schemas take `z` from here.

import { z } from 'zod';
import { isIpv4, isIpv6, parsePrefix } from '../packet/ip-address.ts';

export { z };

export const wholeNumber = (least: number, most: number) => {
  const error = `a number from ${least} to ${most}`;
  return z.int(error).min(least, error).max(most, error);
};

export const portNumber = wholeNumber(1, 65_535);
export const count = wholeNumber(0, 1_000_000);
/** IANA_SVC_NAME, the rule for names of container ports. */
const PORT_NAME = 'a port name of at most 15 lower-case letters, digits and "-"';
export const portName = z.string(PORT_NAME).regex(/^(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/, PORT_NAME);
/** An empty port name is an absent one: the API prints `name: ""` in slices and nothing in Services. */
export const optionalName = z
  .string()
  .transform((name) => (name === '' ? undefined : name))
  .optional();
export const ipAddress = z.string().refine((text) => isIpv4(text) || isIpv6(text), 'an IP address');
export const podCidr = z
  .string()
  .refine((text) => isIpv4Prefix(text) || isIpv6Prefix(text), 'an IP range such as 10.244.1.0/24');
/** The API server lets blanks around it pass. */
export const ipPrefix = z
  .string()
  .refine((text) => isIpv4Prefix(text.trim()) || isIpv6Prefix(text.trim()), 'an IP range such as 10.0.0.0/8');
export const protocol = z.enum(['TCP', 'UDP', 'SCTP']);
export const strings = z.record(z.string(), z.string('a string (a number or boolean needs quotes)'));

export function isIpv4Prefix(text: string): boolean {
  try {
    return text.includes('/') && parsePrefix(text) !== undefined;
  } catch {
    return false;
  }
}

export function isIpv6Prefix(text: string): boolean {
  const [address = '', length = ''] = text.split('/');
  return isIpv6(address) && /^\d{1,3}$/.test(length) && Number(length) <= 128 && text === `${address}/${length}`;
}

const NAME = 'a name of lower-case letters, digits, "-" and "."';
export const objectName = z
  .string(NAME)
  .max(253, NAME)
  .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, NAME);

const ownerReference = z.object({
  kind: z.string(),
  name: z.string(),
  uid: z.string().optional(),
  controller: z.boolean().optional(),
});

/** `null` in what kubectl makes of a template. */
export const timestamp = z
  .string()
  .nullish()
  .transform((text) => text ?? undefined)
  .optional();

export const clusterMetadata = z.object({
  name: objectName,
  uid: z.string().optional(),
  labels: strings.default({}),
  annotations: strings.default({}),
  ownerReferences: z.array(ownerReference).default([]),
  creationTimestamp: timestamp,
  /** Present while the object is being deleted gracefully: the pod is terminating. */
  deletionTimestamp: z.string().optional(),
  deletionGracePeriodSeconds: z.int().min(0).optional(),
});

export const metadata = clusterMetadata.extend({ namespace: objectName.default('default') });

export const labelSelector = z.object({
  matchLabels: strings.default({}),
  matchExpressions: z
    .array(
      z.object({
        key: z.string(),
        operator: z.enum(['In', 'NotIn', 'Exists', 'DoesNotExist']),
        values: z.array(z.string()).default([]),
      }),
    )
    .default([]),
});

/** `null` and nothing are an empty list, as in Go. */
export const listOf = <Item extends z.ZodType>(item: Item) =>
  z
    .array(item)
    .nullish()
    .transform((given) => given ?? []);
