"""What is refused, and the addresses that are made of `endpoint`."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.config.errors import ConfigErrors
from kofagent.receivers.postgresql.catalog import CATALOG, RESOURCE_ATTRIBUTES, SCOPE
from kofagent.receivers.postgresql.config import Config
from kofagent.receivers.postgresql.sessions import Sessions

LEAST = {"username": "u", "password": "p"}

# name | unit | kind (g gauge, s sum, m monotonic sum) and value (i, d) | on by default; from upstream's metadata.yaml
UPSTREAM = """
backends 1 si on
bgwriter.buffers.allocated {buffers} mi on
bgwriter.buffers.writes {buffers} mi on
bgwriter.checkpoint.count {checkpoints} mi on
bgwriter.duration ms md on
bgwriter.maxwritten 1 mi on
blks_hit {blks_hit} mi off
blks_read {blks_read} mi off
blocks_read 1 mi on
commits 1 mi on
connection.max {connections} gi on
database.count {databases} si on
database.locks {lock} gi off
db_size By si on
deadlocks {deadlock} mi off
function.calls {call} mi off
index.scans {scans} mi on
index.size By gi on
operations 1 mi on
replication.data_delay By gi on
rollbacks 1 mi on
rows 1 si on
sequential_scans {sequential_scan} mi off
table.count {table} si on
table.size By si on
table.vacuum.count {vacuum} mi on
temp.io By mi off
temp_files {temp_file} mi off
tup_deleted {tup_deleted} mi off
tup_fetched {tup_fetched} mi off
tup_inserted {tup_inserted} mi off
tup_returned {tup_returned} mi off
tup_updated {tup_updated} mi off
wal.age s gi on
wal.delay s gd off
wal.lag s gi on
"""


def test_the_catalogue_is_upstreams() -> None:
    ours = {}
    for name, entry in CATALOG.items():
        metric = entry.metric
        kind = "g" if metric.kind == "gauge" else "m" if metric.monotonic else "s"
        assert metric.cumulative and metric.name == name
        ours[name.removeprefix("postgresql.")] = [metric.unit, kind + "id"[metric.double], "on" if entry.enabled else "off"]
    assert ours == {line.split()[0]: line.split()[1:] for line in UPSTREAM.split("\n") if line}
    assert set(RESOURCE_ATTRIBUTES) == {
        *(f"postgresql.{name}.name" for name in ("database", "schema", "table", "index")),
        "service.instance.id",
    }
    assert SCOPE.endswith("/receiver/postgresqlreceiver")


def test_the_defaults_are_upstreams() -> None:
    config = Config.model_validate(LEAST)
    assert (config.endpoint, config.transport) == ("localhost:5432", "tcp")
    assert (config.collection_interval, config.initial_delay) == (10, 1)
    assert (config.databases, config.exclude_databases) == ([], [])
    assert not config.tls.insecure and config.tls.insecure_skip_verify


@pytest.mark.parametrize(
    "options, said",
    [
        ({"username": ""}, "username"),
        ({"password": ""}, "is empty"),
        ({"endpoint": "localhost"}, "is not host:port"),
        ({"endpoint": "[::1]:x"}, "is not a port number"),
        ({"endpoint": ":5432"}, "is not host:port"),
        ({"transport": "unix", "endpoint": "/var/run/postgresql"}, "is not"),
        ({"transport": "udp"}, "transport"),
        ({"tls": {"server_name_override": "db"}}, "is not supported"),
        ({"events": {"db.server.top_query": {"enabled": True}}}, "query samples and top queries are not supported"),
        ({"events": {"db.server.other": {}}}, "there is no event"),
        ({"query_sample_collection": {"enabled": True}}, "query samples and top queries are not supported"),
        ({"top_query_collection": {"enabled": True}}, "query samples and top queries are not supported"),
        ({"metrics": {"postgresql.commit": {"enabled": True}}}, "there is no metric"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises((ValidationError, ConfigErrors)) as refused:
        Config.model_validate({**LEAST, **options})
    assert said in str(refused.value)


def test_events_that_are_off_are_accepted() -> None:
    Config.model_validate(
        {**LEAST, "events": {"db.server.top_query": {"enabled": False}}, "top_query_collection": {"top_n_query": 5}}
    )


@pytest.mark.parametrize(
    "transport, endpoint, address",
    [
        ("tcp", "[::1]:5433", ("::1", 5433)),
        ("unix", "var/run/postgresql:5432", ("/var/run/postgresql", 5432)),
        ("unix", "/tmp:5432", ("/tmp", 5432)),
    ],
)
def test_addresses(transport: str, endpoint: str, address: tuple[str, int]) -> None:
    assert Config.model_validate({**LEAST, "transport": transport, "endpoint": endpoint}).address() == address


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StartError, match=r"kofagent\[postgresql\]"):
        Sessions(Config.model_validate(LEAST))
