// Which IP families a Service has: what its ipFamilies, clusterIPs and ipFamilyPolicy say, and of what they leave open
// the cluster's ranges decide (initIPFamilyFields of pkg/registry/core/service/storage).

import { ObjectError } from './object-error.ts';
import { type IpFamilyName, isHeadless, type Service, withChanges } from './objects.ts';
import { familyOfAddress } from './service-validation.ts';

/**
 * The Service with its policy and families. `configured` are the families of the cluster's service ranges, the default one
 * first; `before` is the Service that an update replaces. Throws an ObjectError for families that the cluster has not, or
 * that contradict the policy.
 */
export function withFamilies(service: Service, configured: readonly IpFamilyName[], before?: Service): Service {
  if (service.spec.type === 'ExternalName' || isUntouchedPreference(service, before)) return service;
  const ipFamilyPolicy = service.spec.ipFamilyPolicy ?? before?.spec.ipFamilyPolicy ?? defaultPolicy(service);
  const reduced = before === undefined ? service : withoutSecondary(service, ipFamilyPolicy, before);
  const spec = withChanges(reduced.spec, { ipFamilyPolicy });
  const given = withChanges(reduced, { spec });
  if (ipFamilyPolicy === 'SingleStack') refuseSecond(given);
  const ipFamilies = inferred(given, configured);
  if (isHeadless(given) && hasNoSelector(given)) {
    // Nothing is allocated, and whoever makes its endpoints may have both families, whatever the cluster has.
    const [first = configured[0] as IpFamilyName] = ipFamilies;
    const both = ipFamilyPolicy === 'SingleStack' ? [first] : [first, otherFamily(first)];
    return { ...given, spec: { ...spec, ipFamilies: ipFamilies.length === 2 ? ipFamilies : both } };
  }
  if (ipFamilyPolicy === 'RequireDualStack' && configured.length < 2) {
    const problem = 'RequireDualStack needs a cluster with service ranges of both IP families';
    throw new ObjectError(service, `spec.ipFamilyPolicy: ${problem}; this one has ${configured.join()} only`);
  }
  for (const [index, family] of ipFamilies.entries()) {
    if (configured.includes(family)) continue;
    const problem = `${family} is not configured on this cluster; expected ${configured.join(' or ')}`;
    throw new ObjectError(service, `spec.ipFamilies[${index}]: ${problem}`);
  }
  const [first = configured[0] as IpFamilyName] = ipFamilies;
  const addsSecond = ipFamilyPolicy !== 'SingleStack' && ipFamilies.length < 2 && configured.length === 2;
  const families = ipFamilies.length === 2 ? ipFamilies : addsSecond ? [first, otherFamily(first)] : [first];
  return withChanges(given, { spec: withChanges(spec, { ipFamilies: families }) });
}

const hasNoSelector = ({ spec }: Service): boolean => Object.keys(spec.selector).length === 0;

const otherFamily = (family: IpFamilyName): IpFamilyName => (family === 'IPv4' ? 'IPv6' : 'IPv4');

const defaultPolicy = (service: Service): Service['spec']['ipFamilyPolicy'] =>
  isHeadless(service) && hasNoSelector(service) ? 'RequireDualStack' : 'SingleStack';

/** A PreferDualStack Service keeps what it has when the cluster gets a second range or loses it. */
function isUntouchedPreference({ spec }: Service, before: Service | undefined): boolean {
  return (
    before !== undefined &&
    spec.ipFamilyPolicy === 'PreferDualStack' &&
    before.spec.ipFamilyPolicy === 'PreferDualStack' &&
    spec.type === before.spec.type &&
    isSameList(spec.clusterIPs, before.spec.clusterIPs) &&
    isSameList(spec.ipFamilies, before.spec.ipFamilies)
  );
}

/** Policy SingleStack, and nothing else changed, gives up the second address; giving it up otherwise is an error. */
function withoutSecondary(service: Service, policy: Service['spec']['ipFamilyPolicy'], before: Service): Service {
  const { clusterIPs, ipFamilies } = service.spec;
  if (policy !== 'SingleStack') {
    for (const [what, now, then] of [
      ['address', clusterIPs, before.spec.clusterIPs],
      ['family', ipFamilies, before.spec.ipFamilies],
    ] as const) {
      if (now === undefined || now.length >= (then?.length ?? 0)) continue;
      const problem = `expected SingleStack, as the second ${what} is given up, got ${policy}`;
      throw new ObjectError(service, `spec.ipFamilyPolicy: ${problem}`);
    }
    return service;
  }
  const first = <Item extends string>(now: readonly Item[] | undefined, then: readonly Item[] | undefined) =>
    isSameList(now, then) ? now?.slice(0, 1) : now;
  const spec = {
    ...service.spec,
    clusterIPs: first(clusterIPs, before.spec.clusterIPs),
    ipFamilies: first(ipFamilies, before.spec.ipFamilies),
  };
  return { ...service, spec };
}

const isSameList = (a: readonly string[] | undefined, b: readonly string[] | undefined): boolean =>
  a?.join() === b?.join();

function refuseSecond(service: Service): void {
  const { clusterIPs = [], ipFamilies = [] } = service.spec;
  if (clusterIPs.length < 2 && ipFamilies.length < 2) return;
  const several = clusterIPs.length > 1 ? 'clusterIPs' : 'ipFamilies';
  const problem = `expected RequireDualStack or PreferDualStack, as there are two ${several}, got SingleStack`;
  throw new ObjectError(service, `spec.ipFamilyPolicy: ${problem}`);
}

/** The given families, and those of addresses without one. */
function inferred(service: Service, configured: readonly IpFamilyName[]): readonly IpFamilyName[] {
  const { clusterIPs = [], ipFamilies = [] } = service.spec;
  const families = [...ipFamilies];
  for (const [index, address] of clusterIPs.entries()) {
    if (address === 'None' || index < families.length) continue;
    const family = familyOfAddress(address);
    if (!configured.includes(family)) {
      const problem = `${family} is not configured on this cluster; expected ${configured.join(' or ')}, got ${address}`;
      throw new ObjectError(service, `spec.clusterIPs[${index}]: ${problem}`);
    }
    families.push(family);
  }
  return families;
}
