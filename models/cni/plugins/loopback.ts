// The plugin `loopback`: `ip link set lo up`. Network namespaces here are born with it.

import { sandboxOf } from '../container-veth.ts';
import { cniPlugin } from '../plugin.ts';
import { NO_RESULT, sandboxPath } from '../result.ts';

export const loopback = cniPlugin({
  type: 'loopback',
  options: {},
  add(call) {
    const namespace = sandboxOf(call);
    const { name, mac } = namespace.deviceNamed('lo');
    return call.prevResult ?? { ...NO_RESULT, interfaces: [{ name, mac, sandbox: sandboxPath(namespace.name) }] };
  },
  del() {},
  check() {},
});
