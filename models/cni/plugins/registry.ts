// The plugins that every node has: one line each. A user's own ones stand beside them.

import { CNI_ERROR, CniError } from '../cni-error.ts';
import type { CniPlugin } from '../plugin.ts';
import { bandwidth } from './bandwidth.ts';
import { bridge } from './bridge.ts';
import { calico } from './calico.ts';
import { flannel } from './flannel.ts';
import { hostLocal } from './host-local.ts';
import { loopback } from './loopback.ts';
import { portmap } from './portmap.ts';
import { ptp } from './ptp.ts';

const PLUGINS: readonly CniPlugin[] = [bandwidth, bridge, calico, flannel, hostLocal, loopback, portmap, ptp];

/** `own`: of the user, found first. Throws a CniError that lists what there is. */
export function findPlugin(type: string, own: readonly CniPlugin[] = []): CniPlugin {
  const all = [...own, ...PLUGINS];
  const found = all.find((plugin) => plugin.type === type);
  if (found !== undefined) return found;
  const names = [...new Set(all.map((plugin) => plugin.type))].sort().join(', ');
  throw new CniError(CNI_ERROR.invalidConfig, `failed to find plugin "${type}"; there are ${names}`);
}
