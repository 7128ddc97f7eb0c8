// Policy routing as far as an egress gateway needs it: rules `ip rule add from SOURCE to DESTINATION lookup TABLE`, each with
// a table of one default route, for packets that come in. The table of local addresses goes before them, the main table
// behind; a rule may say `lookup main`, which ends the search.
//
// Not modelled: rules for what the host itself sends, by mark, device, port or TOS; priorities other than the order given.

import type { Ip, Prefix } from '../packet/ip-address.ts';
import { contains } from '../packet/ip-address.ts';
import type { Route, WaysMemory } from './fib.ts';

export interface SourceRule {
  readonly source: Ip;
  readonly destination: Prefix;
  /** undefined: `lookup main`. */
  readonly route: Route | undefined;
}

export class SourceRoutes {
  readonly #ways: WaysMemory;
  /** Undefined where there are none: only few hosts have any. */
  #bySource: Map<Ip, SourceRule[]> | undefined;

  constructor(ways: WaysMemory) {
    this.#ways = ways;
  }

  /** These and no others, the first that fits decides. */
  replace(rules: readonly SourceRule[]): void {
    const bySource = new Map<Ip, SourceRule[]>();
    for (const rule of rules) {
      const ofSource = bySource.get(rule.source);
      if (ofSource === undefined) bySource.set(rule.source, [rule]);
      else ofSource.push(rule);
    }
    this.#bySource = bySource.size === 0 ? undefined : bySource;
    this.#ways.forgetWays();
  }

  /** The route of the first rule that fits, or that of the main table. */
  routeOf(srcIp: Ip, dstIp: Ip, main: Route | undefined): Route | undefined {
    if (this.#bySource === undefined || (main !== undefined && main.type !== 'unicast')) return main;
    const rule = this.#bySource.get(srcIp)?.find(({ destination }) => contains(destination, dstIp));
    return rule?.route ?? main;
  }
}
