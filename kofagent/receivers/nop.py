"""`nop`: a receiver that never brings anything. Some pipelines need one beside a connector or for a trial.

Fails never. Upstream: receiver/nopreceiver of the OpenTelemetry Collector.
"""

from __future__ import annotations

from kofagent.component.protocols import Receiver
from kofagent.config.base import ComponentConfig


class Config(ComponentConfig):
    """No options."""


class NopReceiver(Receiver[Config]):
    """Starts, stops, and does nothing in between."""


COMPONENT = NopReceiver
