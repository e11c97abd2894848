"""`k8sattributes`: adds what the cluster knows about a pod to the pod's telemetry.

Upstream: processor/k8sattributesprocessor. The pod is that of the first rule of `pod_association` that finds one: a rule whose
sources the resource has, but whose pod the API does not know, gives way to the next (upstream's ends there). Without rules it is
found by `k8s.pod.ip`, `ip`, the sender's address or an address in `host.name`. Attributes that the data already
has are never replaced. Every distinct resource is changed once, and the result is remembered until its pod changes. Only the
pods that `filter` selects are watched, reduced to the fields in use, and pipelines with equal options share them.

Telemetry that arrives before its pod is known waits at most `wait_for_pod` from the first time that this pod is looked up; then
the next rules are tried; what none knows is passed on unchanged and counted as `kofagent_k8sattributes_unknown_items`. Each
fruitless wait halves the next one, until
a wait succeeds or some seconds have passed. After the start, telemetry of known pods waits as long for the first lists of
namespaces, nodes and owners. Deleted pods stay known for `pod_delete_grace_period`. Static pods are also found by the uid in
the path of their log files (the annotation kubernetes.io/config.hash). While the API server cannot be reached, the component's
status says so, it tries again, and data is still passed on. A malformed payload is refused and counted as dropped
(`malformed`).
"""

from kofagent.processors.k8sattributes.processor import K8sAttributes

COMPONENT = K8sAttributes
