"""The nop exporter owns and counts."""

from kofagent.exporters.nop import COMPONENT
from kofagent.telemetry.batch import Batch, MetricBatch, Samples
from kofagent.telemetry.series import Series
from kofagent.telemetry.signal import Signal
from tests.support.components import make


async def test_everything_counts_as_sent() -> None:
    nop = make(COMPONENT, kind="exporters", id="nop/x")
    await nop.start()
    await nop.consume(Batch(Signal.LOGS, b"", 3))
    await nop.consume(MetricBatch([Samples([Series((("__name__", "a"),))], [1.0], 1)]))
    await nop.stop()
    assert nop.context.ledger.total("otelcol_exporter_sent_log_records_total", exporter="nop/x") == 3
    assert nop.context.ledger.total("otelcol_exporter_sent_metric_points_total", exporter="nop/x") == 1
