"""The nop receiver lives and dies quietly."""

from kofagent.receivers.nop import COMPONENT
from kofagent.telemetry.signal import Signal
from tests.support.components import Sink, make


async def test_brings_nothing() -> None:
    sink = Sink()
    nop = make(COMPONENT)
    nop.outputs = {Signal.LOGS: sink}
    await nop.start()
    await nop.stop()
    await nop.stop()
    assert sink.batches == []
