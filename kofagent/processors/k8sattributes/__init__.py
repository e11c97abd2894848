"""k8sattributes: adds what the cluster knows of a pod to its telemetry. Upstream: processor/k8sattributesprocessor.

The pod is found by the first rule of `pod_association` whose sources the resource has; without rules by `k8s.pod.ip`, `ip`, the
sender's address or an address in `host.name`. What is added never replaces what the data has. Every distinct resource is worked on
once and remembered until its pod changes; only the pods that `filter` selects are watched, cut down to the fields in use, and
pipelines with equal options share them.

Telemetry that comes before its pod is known waits at most `wait_for_pod` from the first time that pod is asked for; then it goes
on as it is, counted as `kofagent_k8sattributes_unknown_items`. Each wait in vain halves the next one, until one was not in vain
or some seconds have passed. After the start telemetry of known pods waits as long for the first lists of namespaces, nodes and
owners. Deleted pods stay known for `pod_delete_grace_period`. Static pods are also found by the uid their log files carry (the
annotation kubernetes.io/config.hash). An API server that cannot be reached is the component's status and tried again; data goes on.
A payload that is not well formed is refused and counted as dropped (`malformed`).
"""

from kofagent.processors.k8sattributes.processor import K8sAttributes

COMPONENT = K8sAttributes
