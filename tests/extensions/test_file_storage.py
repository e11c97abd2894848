"""file_storage: keeps what it was given, through kill -9, damage and a full disk."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kofagent.component.checkpoints import MemoryStore, file_name
from kofagent.component.protocols import StartError
from kofagent.extensions.file_storage import COMPONENT
from tests.support.components import make
from tests.support.examples import examples


async def storage(folder: Path, **options: Any) -> Any:
    made = make(COMPONENT, {"directory": str(folder), **options}, kind="extensions", id="file_storage")
    await made.start()
    return made


async def test_what_is_kept(tmp_path: Path) -> None:
    made = await storage(tmp_path)
    store = await made.open_store("receiver", "filelog/kube")
    await store.set("a", b"1")
    await store.set("a", b"2")
    await store.apply({"b/1": b"x", "b/2": b"", "c": b"z", "gone": None})
    await store.delete("c")
    assert await store.get("a") == b"2" and await store.get("c") is None
    assert await store.items("b/") == {"b/1": b"x", "b/2": b""}
    assert {f.stat().st_mode & 0o777 for f in tmp_path.iterdir()} == {0o600}, "nobody else may read them"
    await made.stop()
    with pytest.raises(OSError, match="closed"):
        await store.get("a")
    again = await (await storage(tmp_path)).open_store("receiver", "filelog/kube")
    assert await again.items() == {"a": b"2", "b/1": b"x", "b/2": b""}
    await again.close()
    await again.close()
    assert [f.name for f in tmp_path.iterdir()] == ["receiver_filelog_kube"]


async def test_components_do_not_see_each_other(tmp_path: Path) -> None:
    made = await storage(tmp_path)
    one, two, three = [await made.open_store(*w) for w in (("receiver", "a"), ("exporter", "a"), ("receiver", "a", "queue"))]
    await one.set("k", b"1")
    assert await two.get("k") is None and await three.get("k") is None
    await made.stop()


def test_names_are_upstreams() -> None:
    assert file_name("receiver", "filelog/logs") == "receiver_filelog_logs"
    assert file_name("receivers", "filelog/logs/container") == "receiver_filelog_logs~007Econtainer".replace("007E", "002F")
    assert file_name("receiver", "filelog") == "receiver_filelog_"
    assert "/" not in file_name("receiver", "filelog/../../etc")


KEYS = st.text(alphabet="ab/\u00e9", max_size=3)


@settings(max_examples=examples(30), deadline=None)
@given(st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=5), max_size=4), max_size=8), KEYS)
async def test_it_is_the_store_in_memory_on_disk(tmp_path_factory: pytest.TempPathFactory, steps: Any, prefix: str) -> None:
    made = await storage(tmp_path_factory.mktemp("s"))
    store, model = await made.open_store("receiver", "x"), MemoryStore()
    for step in steps:
        await store.apply(step)
        await model.apply(step)
    assert await store.items(prefix) == await model.items(prefix)
    assert await store.keys(prefix) == await model.keys(prefix) == sorted(await model.items(prefix))
    await made.stop()


WRITER = """
import asyncio, sys
from kofagent.extensions.file_storage import COMPONENT
from tests.support.components import make
async def main():
    made = make(COMPONENT, {"directory": sys.argv[1]}, kind="extensions")
    await made.start()
    store = await made.open_store("receiver", "x")
    for i in range(10**9):
        await store.apply({"last": str(i).encode(), f"k{i % 50}": b"x" * 1000})
        print(i, flush=True)
asyncio.run(main())
"""


async def test_kill_minus_nine_loses_nothing_that_returned(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    last = -1
    for line in process.stdout:
        last = int(line)
        if last >= 200:
            break
    made = await storage(tmp_path, timeout="50ms")
    with pytest.raises(StartError, match="in use by another process"):
        await made.open_store("receiver", "x")
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split(b"\n")
    process.wait()
    acknowledged = max([last, *[int(x) for x in rest if x.strip()][:-1]])
    store = await made.open_store("receiver", "x")
    assert int(await store.get("last") or b"-1") >= acknowledged
    await made.stop()


@pytest.mark.parametrize("damage", [b"this is no database at all" * 500, None])
async def test_a_damaged_file(tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    made = await storage(tmp_path)
    store = await made.open_store("receiver", "x")
    await store.apply({f"k{i}": os.urandom(500) for i in range(200)})
    await made.stop()
    file = tmp_path / "receiver_x_"
    content = bytearray(file.read_bytes())
    content[4096:40960] = os.urandom(36864)
    file.write_bytes(damage if damage is not None else bytes(content))
    with pytest.raises(StartError, match="recreate: true"):
        await made.open_store("receiver", "x")
    new = await storage(tmp_path, recreate=True)
    store = await new.open_store("receiver", "x")
    assert await store.items() == {}
    await store.set("a", b"1")
    await new.stop()
    assert len(list(tmp_path.glob("receiver_x_.corrupt-*"))) == 1
    assert new.context.ledger.total("kofagent_storage_recreated_total", extension="file_storage") == 1
    assert "moved to" in caplog.text


@pytest.fixture
def file_limit() -> Iterator[Any]:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size or old[0], old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


async def test_a_full_disk_is_an_error_and_then_it_goes_on(tmp_path: Path, file_limit: Any) -> None:
    made = await storage(tmp_path)
    store = await made.open_store("receiver", "x")
    await store.set("a", b"1")
    file_limit(200_000)
    try:
        with pytest.raises(OSError):
            await store.set("big", b"x" * 1_000_000)
        assert await store.get("a") == b"1"
    finally:
        file_limit(0)
    await store.set("big", b"y" * 1_000_000)
    assert await store.get("big") == b"y" * 1_000_000
    await made.stop()


@pytest.mark.parametrize("on_rebound, check_interval", [(True, 0), (False, 0), (True, "1h")])
async def test_compaction(on_rebound: bool, check_interval: Any, tmp_path: Path) -> None:
    compaction = {"on_rebound": on_rebound, "rebound_needed_threshold_mib": 1, "rebound_trigger_threshold_mib": 1}
    made = await storage(tmp_path, compaction={**compaction, "check_interval": check_interval})
    store = await made.open_store("receiver", "x")
    await store.apply({str(i): b"x" * 100_000 for i in range(40)})
    await store.apply(dict.fromkeys(map(str, range(40))))
    await store.set("k", b"v")
    await made.stop()
    assert ((tmp_path / "receiver_x_").stat().st_size < 100_000) == (on_rebound and not check_interval)


async def test_directories(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="create_directory"):
        await storage(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="is not a directory"):
        await storage(tmp_path / "file")
    made = await storage(tmp_path / "a" / "b", create_directory=True, fsync=True)
    await (await made.open_store("receiver", "x")).set("a", b"")
    await made.stop()


@pytest.mark.parametrize(
    "options",
    [
        {"directory": ""},
        {"directory_permissions": "x"},
        {"timeout": "1"},
        {"compaction": {"on_rebound": True, "rebound_trigger_threshold_mib": 200}},
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        make(COMPONENT, options, kind="extensions")
