"""`nop`: never receives anything; for pipelines that need a receiver next to a connector, and for experiments.

Never fails. Upstream: receiver/nopreceiver of the OpenTelemetry Collector.
"""

from __future__ import annotations

from kofagent.component.protocols import Receiver
from kofagent.config.base import ComponentConfig


class Config(ComponentConfig):
    """No options."""


class NopReceiver(Receiver[Config]):
    """Starts, stops, and receives nothing."""


COMPONENT = NopReceiver
