// What the API server refuses of an Ingress: ValidateIngressCreate of pkg/apis/networking/validation. The shape of each
// field is the schema's matter. Whether the Service is there nobody asks.

import { isIpv4, isIpv6 } from '../../packet/ip-address.ts';
import { ObjectError } from '../object-error.ts';
import type { Ingress } from '../objects.ts';

export type IngressRule = Ingress['spec']['rules'][number];
export type IngressPath = NonNullable<IngressRule['http']>['paths'][number];
export type IngressBackend = IngressPath['backend'];

type Refuse = (field: string, problem: string) => never;

/** The class of Ingresses from before there was `ingressClassName`. */
export const CLASS_ANNOTATION = 'kubernetes.io/ingress.class';

/** Throws an ObjectError about the first wrong field. */
export function checkIngress(ingress: Ingress): void {
  const refuse: Refuse = (field, problem) => {
    throw new ObjectError(ingress, `${field}: ${problem}`);
  };
  const { defaultBackend, rules, tls, ingressClassName } = ingress.spec;
  if (rules.length === 0 && defaultBackend === undefined)
    refuse('spec', 'expected defaultBackend or rules, got neither');
  if (defaultBackend !== undefined) checkBackend('spec.defaultBackend', defaultBackend, refuse);
  for (const [i, rule] of rules.entries()) checkRule(`spec.rules[${i}]`, rule, refuse);
  for (const [i, { hosts }] of tls.entries())
    for (const [j, host] of hosts.entries()) checkHost(`spec.tls[${i}].hosts[${j}]`, host, refuse);
  if (ingressClassName !== undefined && !SUBDOMAIN.test(ingressClassName))
    refuse(
      'spec.ingressClassName',
      `expected a name of lower-case letters, digits, "-" and ".", got "${ingressClassName}"`,
    );
  const annotated = ingress.metadata.annotations[CLASS_ANNOTATION];
  if (annotated !== undefined && ingressClassName !== undefined && annotated !== ingressClassName)
    refuse(
      `metadata.annotations["${CLASS_ANNOTATION}"]`,
      `expected "${ingressClassName}", which is ingressClassName, got "${annotated}"`,
    );
}

function checkRule(field: string, { host, http }: IngressRule, refuse: Refuse): void {
  if (host !== undefined) {
    if (isIpv4(host) || isIpv6(host)) refuse(`${field}.host`, `expected a DNS name, got the IP address ${host}`);
    checkHost(`${field}.host`, host, refuse);
  }
  if (http === undefined) return;
  if (http.paths.length === 0) refuse(`${field}.http.paths`, 'expected at least one path, got none');
  for (const [i, path] of http.paths.entries()) checkPath(`${field}.http.paths[${i}]`, path, refuse);
}

function checkHost(field: string, host: string, refuse: Refuse): void {
  const isFine = host.includes('*') ? host.startsWith('*.') && SUBDOMAIN.test(host.slice(2)) : SUBDOMAIN.test(host);
  if (!isFine) refuse(field, `expected a DNS name such as shop.example.com or *.example.com, got "${host}"`);
}

function checkPath(field: string, { path, pathType, backend }: IngressPath, refuse: Refuse): void {
  const isAbsolute = path.startsWith('/');
  if (!isAbsolute && (pathType !== 'ImplementationSpecific' || path !== ''))
    refuse(`${field}.path`, `expected a path that begins with "/", got "${path}"`);
  if (pathType !== 'ImplementationSpecific') checkPathText(`${field}.path`, path, refuse);
  checkBackend(`${field}.backend`, backend, refuse);
}

/** What neither an Ingress nor a route of the Gateway API may have in a path that is taken literally. */
export function checkPathText(field: string, path: string, refuse: (field: string, problem: string) => void): void {
  for (const part of ['//', '/./', '/../', '%2f', '%2F'])
    if (path.includes(part)) refuse(field, `expected a path without "${part}", got "${path}"`);
  for (const end of ['/..', '/.'])
    if (path.endsWith(end)) refuse(field, `expected a path that does not end with "${end}", got "${path}"`);
}

function checkBackend(field: string, { service, resource }: IngressBackend, refuse: Refuse): void {
  if (service === undefined) {
    if (resource === undefined) refuse(field, 'expected service or resource, got neither');
    return;
  }
  if (resource !== undefined) refuse(field, 'expected service or resource, got both');
  const { name, port } = service;
  if (!LABEL.test(name)) refuse(`${field}.service.name`, `expected the name of a Service, got "${name}"`);
  if (port.name === undefined && port.number === undefined)
    refuse(`${field}.service.port`, 'expected a name or a number, got neither');
  if (port.name !== undefined && port.number !== undefined)
    refuse(`${field}.service.port`, 'expected a name or a number, got both');
  if (port.name !== undefined && !PORT_NAME.test(port.name))
    refuse(`${field}.service.port.name`, `expected the name of a port, got "${port.name}"`);
}

/** RFC 1123. */
const SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** RFC 1035, as names of Services are. */
const LABEL = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** IANA_SVC_NAME. */
const PORT_NAME = /^(?=.{1,15}$)(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
