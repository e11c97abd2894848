"""The three signals and the word the Go collector's own metrics use for an item of each."""

from enum import Enum


class Signal(Enum):
    """A kind of telemetry; `value` is the word used in pipeline names."""

    LOGS = "logs"
    METRICS = "metrics"
    TRACES = "traces"

    @property
    def items(self) -> str:
        """The word in `otelcol_receiver_accepted_<items>_total`."""
        return _ITEMS[self]


_ITEMS = {Signal.LOGS: "log_records", Signal.METRICS: "metric_points", Signal.TRACES: "spans"}
