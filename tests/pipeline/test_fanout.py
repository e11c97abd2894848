"""Several consumers of one batch: whose answer counts."""

import pytest

from kofagent.pipeline.fanout import AsOtlp, FanOut
from kofagent.telemetry.batch import Batch, MetricBatch, Samples
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.series import Series
from kofagent.telemetry.signal import Signal
from tests.support.components import Sink

ONE = Batch(Signal.LOGS, b"", 1)
AGAIN, NEVER = Refused("http 503", retry_after=3), Refused("http 400", permanent=True)


def sink(refuse: Refused | None = None) -> Sink:
    it = Sink()
    it.refuse = refuse
    return it


async def test_all_are_given_the_batch() -> None:
    sinks = [sink(), sink()]
    await FanOut(sinks).consume(ONE)
    assert [s.batches for s in sinks] == [[ONE], [ONE]]


async def test_one_retryable_refusal_makes_the_answer_retryable() -> None:
    with pytest.raises(Refused) as error:
        await FanOut([sink(), sink(NEVER), sink(AGAIN)]).consume(ONE)
    assert error.value is AGAIN


async def test_a_permanent_refusal_of_one_is_its_own_loss() -> None:
    taker = sink()
    await FanOut([sink(NEVER), taker]).consume(ONE)
    assert taker.count == 1


async def test_refused_by_all_for_good() -> None:
    with pytest.raises(Refused) as error:
        await FanOut([sink(NEVER), sink(NEVER)]).consume(ONE)
    assert error.value.permanent


async def test_columns_become_otlp_in_front_of_who_needs_it() -> None:
    taker = sink()
    columns = MetricBatch([Samples([Series((("__name__", "up"), ("job", "a")))], [1.0], 1_700_000_000_000, {"service.name": "a"})])
    await AsOtlp(taker).consume(columns)
    assert isinstance(taker.batches[0], Batch)
    assert taker.count == 1
    await AsOtlp(taker).consume(ONE)
    assert taker.batches[1] is ONE
