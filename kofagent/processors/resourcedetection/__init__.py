"""resourcedetection: adds what is known of this machine and its environment to the resource of all signals.

Detectors: `env` (OTEL_RESOURCE_ATTRIBUTES), `system` (host.*, os.*) and `k8s_api`, older name `k8snode` (k8s.node.name from the
environment, k8s.node.uid and k8s.cluster.uid from the API; while that cannot be reached the others are added, the status says
so and it is asked again). Detection happens at the start, within `timeout`, and again
every `refresh_interval`; an error at the start is an error of the start, a later one keeps the former attributes. Every distinct
resource is changed once and remembered. Upstream: processor/resourcedetectionprocessor.
"""

from kofagent.processors.resourcedetection.processor import ResourceDetection

COMPONENT = ResourceDetection
