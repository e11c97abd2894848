"""resourcedetection: adds what is known of this machine and its environment to the resource of all signals.

Detectors: `env` (OTEL_RESOURCE_ATTRIBUTES) and `system` (host.*, os.*). Detection happens at the start, within `timeout`, and again
every `refresh_interval`; an error at the start is an error of the start, a later one keeps the former attributes. Every distinct
resource is changed once and remembered. Upstream: processor/resourcedetectionprocessor.
"""

from kofagent.processors.resourcedetection.options import Config
from kofagent.processors.resourcedetection.processor import ResourceDetection

__all__ = ["COMPONENT", "Config", "ResourceDetection"]

COMPONENT = ResourceDetection
