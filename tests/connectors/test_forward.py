"""forward hands everything on, to the pipelines of its signal."""

from __future__ import annotations

import pytest

from kofagent.connectors.forward import COMPONENT
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import Sink, make


async def test_forward() -> None:
    connector = make(COMPONENT, kind="connectors")
    a, b, other = Sink(), Sink(), Sink()
    connector.outputs = {"logs/a": a, "logs/b": b, "traces": other}
    batch = Batch(Signal.LOGS, b"", 2)
    await connector.consume(batch)
    assert a.batches == b.batches == [batch] and other.batches == []


async def test_answers() -> None:
    connector = make(COMPONENT, kind="connectors")
    a, b = Sink(), Sink()
    connector.outputs = {"logs/a": a, "logs/b": b}
    batch = Batch(Signal.LOGS, b"", 2)
    a.refuse = Refused("rejected", permanent=True)
    await connector.consume(batch)  # b has it
    b.refuse = Refused("sending queue full", retry_after=3)
    with pytest.raises(Refused, match="sending queue full"):
        await connector.consume(batch)
    b.refuse = Refused("rejected", permanent=True)
    with pytest.raises(Refused) as refused:
        await connector.consume(batch)
    assert refused.value.permanent
