"""Several consumers of one batch: whose answer counts."""

import pytest

from kofagent.pipeline.fanout import AsOtlp, FanOut, entry
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


COLUMNS = MetricBatch([Samples([Series((("__name__", "up"), ("job", "a")))], [1.0], 1_700_000_000_000, {"service.name": "a"})])


class Plain:
    """A consumer that knows serialized OTLP only."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    async def consume(self, batch: Batch) -> None:
        self.batches.append(batch)


async def test_a_pipeline_of_metrics_converts_columns_once_for_all_that_need_it() -> None:
    columns, plain = sink(), [Plain(), Plain()]
    await entry([columns, *plain], Signal.METRICS).consume(COLUMNS)
    assert columns.batches == [COLUMNS]
    first, second = (p.batches for p in plain)
    assert isinstance(first[0], Batch) and first[0] is second[0]


async def test_a_consumer_alone_is_its_own_entry() -> None:
    columns, plain = sink(), Plain()
    ends: list[object] = [entry([columns], Signal.METRICS), entry([plain], Signal.LOGS)]
    assert ends[0] is columns and ends[1] is plain


async def test_columns_become_otlp_in_front_of_who_needs_it() -> None:
    taker = sink()
    await AsOtlp(taker).consume(COLUMNS)
    assert isinstance(taker.batches[0], Batch)
    assert taker.count == 1
    await AsOtlp(taker).consume(ONE)
    assert taker.batches[1] is ONE
