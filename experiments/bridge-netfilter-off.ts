// What happens to Services if one node has net.bridge.bridge-nf-call-iptables off?
//
// Expectation (kubernetes/kubernetes#38802, #21613, coredns/coredns#1879). The request passes the node's IP stack and is
// sent on to an endpoint; if that is on the same bridge as the client, its answer goes by the bridge alone, past the rules
// that would translate it back, and the client does not know who is talking. So of that node's clients a request is lost
// for each endpoint on their own node, local / n of all; other nodes' clients lose none, and nobody does on a network
// without bridges.

import { atMost, experiment, Load, ms, near, poisson, s, shareFinding, sumOf } from './podwire.ts';
import { webPod } from './web-pod.ts';

const NETWORKS = ['bridge', 'kindnet'] as const;
const LOCAL_ENDPOINTS = [0, 1, 2] as const;
const ENDPOINTS = 4;
const REQUESTS = 400;

export default experiment({
  name: 'bridge-netfilter-off',
  question: 'What happens to Services if one node has net.bridge.bridge-nf-call-iptables off?',
  factors: { cni: NETWORKS, client: ['on that node', 'on another node'], localEndpoints: LOCAL_ENDPOINTS },
  replications: 3,
  warmUp: ms(0),
  duration: s(3),

  clusterOptions: ({ cni }) => ({ cni }),

  build({ client, localEndpoints }, cluster) {
    cluster.addNodes(3);
    cluster.node('node-1').machine.root.sysctl('net.bridge.bridge-nf-call-iptables', 0);
    const home = client === 'on that node' ? 'node-1' : 'node-2';
    const pods = Array.from({ length: ENDPOINTS }, (_, i) =>
      webPod({ name: `web-${i}`, node: i < localEndpoints ? home : 'node-3' }),
    );
    cluster.apply(pods);
    cluster.addService({ name: 'web', port: 80, selects: { name: 'web' } });
    return cluster.openLoop(cluster.addPod({ name: 'client', node: home }), {
      ...{ to: cluster.resolve('web:80'), arrivals: poisson({ perSecond: 200 }), requests: REQUESTS },
      ...{ timeout: ms(500), load: new Load() },
    });
  },

  measure: ({ started, failed }) => ({ requests: started, failed, failedFraction: failed / started }),

  findings: (runs) =>
    NETWORKS.flatMap((cni) =>
      (['on that node', 'on another node'] as const).flatMap((client) =>
        LOCAL_ENDPOINTS.flatMap((localEndpoints) => {
          const cells = runs.at({ cni, client, localEndpoints });
          const lost = cni === 'bridge' && client === 'on that node' ? localEndpoints / ENDPOINTS : 0;
          const share = {
            successes: sumOf(cells, ({ failed }) => failed),
            trials: sumOf(cells, ({ requests }) => requests),
          };
          const claim = `${cni}, client ${client}, ${localEndpoints} of ${ENDPOINTS} endpoints beside it: share lost`;
          return shareFinding(claim, share, lost === 0 ? atMost(0.005) : near(lost, { within: 0.06 }));
        }),
      ),
    ),

  charts: [{ x: 'localEndpoints', y: 'failedFraction', by: 'client' }],
});
