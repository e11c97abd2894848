"""`resourcedetection`: adds what is known about this machine and its environment to the resource, for all three signals.

Detectors: `env` (OTEL_RESOURCE_ATTRIBUTES), `system` (host.*, os.*), `k8s_api`, formerly `k8snode` (k8s.node.name from the
environment, k8s.node.uid and k8s.cluster.uid from the API; while the API cannot be reached the other attributes are added, the
status says so, and it tries again), `kubeadm` (the cluster), `docker` (the host of this container), and the clouds: `ec2`, `eks`,
`ecs`, `gcp`, `azure`, `aks`. All ask at the same time; one without an answer within `timeout` is left out, with a line in the log.
Detection runs at the start, within `timeout`, and again every `refresh_interval`; an error
at the start makes the start fail, a later one keeps the previous attributes. Every distinct resource is changed once and the
result is remembered. Upstream: processor/resourcedetectionprocessor.
"""

from kofagent.processors.resourcedetection.processor import ResourceDetection

COMPONENT = ResourceDetection
