import { expect, test } from 'vitest';
import { readManifests } from '../manifests.ts';

const notesOf = (text: string): readonly string[] => readManifests([{ name: 'a.yaml', text }]).notes;

test('what leads nowhere, or is not modelled, is noted with file, object and field', () => {
  const ingress = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, annotations: {nginx.ingress.kubernetes.io/rewrite-target: /}}
spec: {tls: [{hosts: [a.example]}], defaultBackend: {service: {name: gone, port: {number: 80}}}}`;
  const gateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: example, listeners: [{name: a, port: 53, protocol: UDP}]}`;
  const route = `
apiVersion: gateway.networking.k8s.io/v1beta1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: edge}, {name: other}]
  rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: gone, port: 80}}}], backendRefs: [{name: gone, port: 80}]}]`;
  expect(notesOf([ingress, gateway, route].join('\n---'))).toEqual([
    'a.yaml: document 1 (Ingress default/web): spec.defaultBackend: there is no Service default/gone; requests get 503',
    'a.yaml: document 1 (Ingress default/web): metadata.annotations: nginx.ingress.kubernetes.io/rewrite-target: annotations of controllers are not modelled',
    'a.yaml: document 1 (Ingress default/web): spec.tls: TLS is not modelled; HTTPS is served as HTTP on its port',
    'a.yaml: document 2 (Gateway default/edge): spec.listeners[0].protocol: UDP is not modelled; nobody listens there',
    'a.yaml: document 3 (HTTPRoute default/web): spec.parentRefs[1]: there is no Gateway default/other',
    'a.yaml: document 3 (HTTPRoute default/web): spec.rules[0].filters[0]: RequestMirror is not modelled; it is passed over',
    'a.yaml: document 3 (HTTPRoute default/web): spec.rules[0].backendRefs[0]: there is no Service default/gone; requests get 500',
  ]);
});
