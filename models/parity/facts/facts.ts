// All facts that are shown by a case.

import { DELIVERY } from './delivery.ts';
import type { Fact } from './fact.ts';
import { KUBE_PROXY } from './kube-proxy.ts';
import { NAT_PORTS } from './nat-ports.ts';
import { NFT_FORMS } from './nft-forms.ts';
import { OVERLAYS } from './overlay.ts';
import { REJECTION } from './rejection.ts';
import { SAME_NODE_SERVICE } from './same-node-service.ts';
import { TRACKING } from './tracking.ts';

export const FACTS: readonly Fact[] = [
  ...NAT_PORTS,
  ...SAME_NODE_SERVICE,
  ...TRACKING,
  ...REJECTION,
  ...DELIVERY,
  ...OVERLAYS,
  ...NFT_FORMS,
  ...KUBE_PROXY,
];
