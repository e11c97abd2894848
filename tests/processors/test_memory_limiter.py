"""memory_limiter measures the process itself."""

from pathlib import Path

import pytest

from kofagent.memory import usage as memory
from kofagent.memory.account import Account
from kofagent.memory.memo import Memo
from kofagent.processors import memory_limiter
from kofagent.processors.memory_limiter import MemoryLimiter
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.refused import Refused
from kofagent.telemetry.signal import Signal
from tests.support.components import FakeHost, Sink, eventually, make, validated


async def test_refuses_over_the_limit_and_takes_again_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, host = Sink(), FakeHost()
    it: MemoryLimiter = make(
        MemoryLimiter, {"check_interval": "5ms", "limit_mib": 1 << 20}, kind="processor", id="memory_limiter", host=host
    )
    it.next, it.signal = sink, Signal.LOGS
    await it.start()
    one = Batch(Signal.LOGS, b"", 1)
    await it.consume(one)
    monkeypatch.setattr(memory, "in_use", lambda: 1 << 45)
    await eventually(lambda: host.statuses.get("processor/memory_limiter"))
    with pytest.raises(Refused, match="memory limit") as error:
        await it.consume(one)
    assert not error.value.permanent
    monkeypatch.undo()
    await eventually(lambda: host.statuses.get("processor/memory_limiter") is None)
    await it.consume(one)
    assert sink.count == 2
    await it.stop()


def test_memory_is_measured_in_bytes_of_this_process() -> None:
    before = memory.process_rss()
    block = bytearray(64 * 1024 * 1024)
    block[::4096] = b"x" * len(block[::4096])
    assert memory.process_rss() - before > 48 * 1024 * 1024
    assert 48 * 1024 * 1024 < memory.process_anonymous() < memory.process_rss()
    assert 0 < memory.total() <= memory.machine_total()


async def test_file_pages_do_not_make_it_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """128 MiB, 80 % less 25 %: a limit of 70 MiB. The agent has 45, of the files it reads the kernel keeps what fits."""
    for name, value in (
        ("memory.max", 128 << 20),
        ("memory.current", 127 << 20),
        ("memory.stat", f"anon {45 << 20}\ninactive_file {50 << 20}\nactive_file {32 << 20}"),
    ):
        (tmp_path / name).write_text(f"{value}\n")
    monkeypatch.setattr(memory, "_V2", tmp_path)
    monkeypatch.setattr(memory, "_SELF", tmp_path / "none")
    sink = Sink()
    options = {"check_interval": "1h", "limit_percentage": 80, "spike_limit_percentage": 25}
    it: MemoryLimiter = make(MemoryLimiter, options, kind="processor", id="memory_limiter", host=FakeHost())
    it.next, it.signal = sink, Signal.LOGS
    await it.start()
    await it.consume(Batch(Signal.LOGS, b"", 1))
    await it.stop()
    assert it.config.limits()[0] >> 20 == 70
    assert sink.count == 1


def test_options_and_limits() -> None:
    config = validated(MemoryLimiter, {"check_interval": "1s", "limit_mib": 100})
    assert config.limits() == (80 * 1024 * 1024, 100 * 1024 * 1024)
    config = validated(MemoryLimiter, {"check_interval": "1s", "limit_percentage": 50, "spike_limit_percentage": 10})
    soft, hard = config.limits()
    assert hard == memory.total() * 50 // 100
    assert soft == hard - memory.total() * 10 // 100
    for bad, words in (
        ({"limit_mib": 1}, "check_interval"),
        ({"check_interval": "1s"}, "limit_mib or limit_percentage"),
        ({"check_interval": "1s", "limit_mib": 5, "spike_limit_mib": 5}, "smaller"),
    ):
        with pytest.raises(ValueError, match=words):
            validated(MemoryLimiter, bad)


async def test_memos_shrink_before_data_is_refused(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    account = Account()
    monkeypatch.setattr(memory_limiter, "ACCOUNT", account)
    memo: Memo[int, bytes] = Memo("test.limiter", entries=1000, size=1 << 30)
    account.join(memo)
    for i in range(750):
        memo[i] = bytes(10_000)
    assert memo.entries == 750
    monkeypatch.setattr(memory, "in_use", lambda: (20 << 20) + memo.size)
    sink, host = Sink(), FakeHost()
    it: MemoryLimiter = make(
        MemoryLimiter,
        {"check_interval": "1h", "limit_mib": 30, "spike_limit_mib": 5},
        kind="processor",
        id="memory_limiter",
        host=host,
    )
    it.next, it.signal = sink, Signal.LOGS
    await it.start()
    try:
        await it.consume(Batch(Signal.LOGS, b"", 1))
        assert sink.count == 1
        assert memo.entries == 250, "the young generation stays"
        assert [r.getMessage() for r in caplog.records] == [
            "memory limit: 27 MiB in use, more than 25 MiB; caches were reduced by 4.8 MiB"
        ]
    finally:
        await it.stop()
