"""The receiver against a real server: what it sends, databases that refuse, locks, time limits, a restart, TLS and sockets."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kofagent.receivers.postgresql import COMPONENT, queries
from kofagent.receivers.postgresql.catalog import CATALOG
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal
from tests.receivers.kubeletstats.support import number, read
from tests.support.components import FakeHost, Sink, eventually, make
from tests.support.postgres import PASSWORD, USER, Postgres, shared

pytestmark = pytest.mark.server("postgres")
STATUS = "receivers/postgresql"
ALL = {name: {"enabled": True} for name in CATALOG}
Points = dict[tuple[str, ...], float]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = shared()
    server.execute(
        "CREATE DATABASE shop", "CREATE DATABASE office", "CREATE ROLE guest LOGIN", f"ALTER ROLE guest PASSWORD '{PASSWORD}'"
    )
    server.execute(
        "CREATE TABLE orders (id int PRIMARY KEY, note text)",
        "INSERT INTO orders SELECT g, 'x' FROM generate_series(1, 1000) g",
        "SET enable_seqscan = off",
        "DELETE FROM orders WHERE id <= 10",
        "UPDATE orders SET note = 'y' WHERE id <= 15",
        "CREATE FUNCTION twice(a int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 2 * a; END'",
        "SELECT twice(1)",
        database="shop",
    )
    # After the end of the other session, which tells its counts then.
    server.execute("VACUUM orders", database="shop")
    server.execute(*(f"CREATE TABLE t{i} (a int)" for i in range(5)), database="office")
    yield server
    server.execute("DROP DATABASE shop WITH (FORCE)", "DROP DATABASE office WITH (FORCE)", "DROP ROLE guest")


@asynccontextmanager
async def running(server: Postgres, **options: Any) -> AsyncIterator[tuple[Any, Sink, FakeHost]]:
    host, sink = FakeHost(), Sink()
    quick = {"collection_interval": "50ms", "initial_delay": "0s", "tls": {"insecure": True}, "endpoint": server.endpoint}
    receiver = make(COMPONENT, {**quick, "username": USER, "password": PASSWORD, **options}, id="postgresql", host=host)
    receiver.outputs = {Signal.METRICS: sink}
    try:
        await receiver.start()
        yield receiver, sink, host
    finally:
        await receiver.stop()


def points(batches: list[Any]) -> Points:
    """The newest value of each point by metric, database, table, index and the values of its attributes."""
    found: Points = {}
    for batch in batches:
        assert isinstance(batch, Batch)
        for resource, metrics, _ in read(batch.payload):
            where = [resource[f"postgresql.{n}.name"] for n in ("database", "table", "index") if f"postgresql.{n}.name" in resource]
            for name, each in metrics.items():
                for point in each:
                    key = (name.removeprefix("postgresql."), *where, *(kv.value.string_value for kv in point.attributes))
                    found[key] = number(point)
    return found


async def sent(sink: Sink, *keys: tuple[str, ...]) -> Points:
    """The points, as soon as all of these are among those that came from now on."""
    start = len(sink.batches)

    def found() -> Points | None:
        got = points(sink.batches[start:])
        return got if got.keys() >= set(keys) else None

    return await eventually(found)


async def test_sends_what_the_server_counts(server: Postgres) -> None:
    async with running(server, metrics=ALL, exclude_databases=["postgres"]) as (receiver, sink, host):
        got = await sent(sink, ("index.size", "shop", "orders", "orders_pkey"), ("table.count", "office"), ("backends", "shop"))
        connection = await server.connect("shop")
        size, index, database = await connection.fetchrow(
            "SELECT pg_relation_size('orders'), pg_relation_size('orders_pkey'), pg_database_size('shop')"
        )
        await connection.close()
    table = "public.orders"
    assert got["operations", "shop", table, "ins"] == 1000
    assert got["operations", "shop", table, "del"] == 10
    assert got["operations", "shop", table, "upd"] == 5
    assert got["rows", "shop", table, "live"] == 990
    assert got["table.size", "shop", table] == size
    assert got["table.vacuum.count", "shop", table] == 1
    assert got["blocks_read", "shop", table, "heap_hit"] > 0
    assert got["index.size", "shop", "orders", "orders_pkey"] == index
    assert got["index.scans", "shop", "orders", "orders_pkey"] > 0
    assert got["function.calls", "shop", "twice"] == 1
    assert (got["table.count", "shop"], got["table.count", "office"]) == (1, 5)
    assert abs(got["db_size", "shop"] - database) < database / 10
    assert got["tup_inserted", "shop"] >= 1000 and got["tup_deleted", "shop"] >= 10
    assert got["commits", "shop"] > 0 and got["backends", "shop"] >= 1
    assert got["database.count",] == 2
    assert got["connection.max",] == 100
    assert got["bgwriter.checkpoint.count", "requested"] >= 0
    assert got["database.locks", "pg_locks", "AccessShareLock", "relation"] >= 1
    assert not any("postgres" in key for key in got if key[0] in ("commits", "table.count"))
    # nothing was archived, and there is no standby
    never = {"wal.age", "wal.lag", "wal.delay", "replication.data_delay"}
    assert {key[0] for key in got} == {name.removeprefix("postgresql.") for name in CATALOG} - never
    assert host.statuses.get(STATUS) is None
    assert receiver.context.ledger.sum("otelcol_scraper_errored_metric_points_total") == 0


async def test_attributes_that_are_off_and_values_that_are_not_wanted(server: Postgres) -> None:
    attributes = {
        "service.instance.id": {"enabled": False},
        "postgresql.database.name": {"metrics_include": [{"strict": "office"}]},
    }
    async with running(server, resource_attributes=attributes) as (_, sink, _):
        got = await sent(sink, ("table.count", "office"), ("database.count",))
    assert not any("shop" in key for key in got)
    assert all("service.instance.id" not in resource for batch in sink.batches for resource, _, _ in read(batch.payload))  # type: ignore[union-attr]


async def test_a_database_that_refuses_costs_its_own_metrics(server: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await asyncio.to_thread(server.execute, "REVOKE CONNECT ON DATABASE shop FROM PUBLIC")
    async with running(server, username="guest", databases=["shop", "office"]) as (receiver, sink, host):
        got = await sent(sink, ("table.count", "office"), ("commits", "shop"), ("db_size", "office"))
        assert not any(key[0] in ("table.count", "rows", "db_size") and "shop" in key for key in got)
        status = await eventually(lambda: host.statuses.get(STATUS))
        assert "'shop'" in status and "permission denied" in status and "office" not in status
        assert receiver.context.ledger.sum("otelcol_scraper_errored_metric_points_total") > 0
        await asyncio.to_thread(server.execute, "GRANT CONNECT ON DATABASE shop TO PUBLIC")
        await sent(sink, ("table.count", "shop"))
        await eventually(lambda: host.statuses.get(STATUS) is None)
    assert "works again" in caplog.text


async def test_a_locked_table_is_sent_without_its_size(server: Postgres) -> None:
    connection = await server.connect("shop")
    try:
        await connection.execute("BEGIN")
        await connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        async with running(server, databases=["shop"]) as (_, sink, host):
            got = await sent(sink, ("rows", "shop", "public.orders", "live"), ("table.count", "shop"))
            assert ("table.size", "shop", "public.orders") not in got and got["table.count", "shop"] == 1
            assert host.statuses.get(STATUS) is None
    finally:
        await connection.close()


async def test_a_database_that_does_not_answer_does_not_keep_the_others(server: Postgres) -> None:
    connection = await server.connect("shop")
    try:
        await connection.execute("BEGIN")
        await connection.execute("LOCK TABLE pg_catalog.pg_statistic IN ACCESS EXCLUSIVE MODE")
        await connection.execute("LOCK TABLE pg_catalog.pg_namespace IN ACCESS EXCLUSIVE MODE")
        async with running(server, databases=["shop", "office"], timeout="300ms") as (_, sink, host):
            status = await eventually(lambda: host.statuses.get(STATUS))
            assert status == "database 'shop': no answer within 0.3 s"
            await sent(sink, ("table.count", "office"))
            await connection.execute("ROLLBACK")
            await sent(sink, ("table.count", "shop"))
            await eventually(lambda: host.statuses.get(STATUS) is None)
    finally:
        await connection.close()


async def test_many_tables_come_in_pages(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    async with running(server, databases=["office"], collection_interval="1h") as (_, sink, _):
        await sink.wait_for(lambda s: ("table.count", "office") in points(s.batches))
    tables = [[r["postgresql.table.name"] for r, _, _ in read(b.payload) if "postgresql.table.name" in r] for b in sink.batches]  # type: ignore[union-attr]
    assert sorted(itertools.chain(*tables)) == [f"public.t{i}" for i in range(5)]
    assert max(map(len, tables)) == 2
    assert points(sink.batches)["table.count", "office"] == 5


async def test_connections_are_kept_unless_the_pool_says_otherwise(server: Postgres) -> None:
    async def pids() -> set[int]:
        rows = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'kofagent' AND datname = 'office'")
        return {row[0] for row in rows}

    connection = await server.connect()
    try:
        async with running(server, databases=["office"]) as (_, sink, _):
            await sent(sink, ("table.count", "office"))
            first = await pids()
            await sent(sink, ("table.count", "office"))
            await sent(sink, ("table.count", "office"))
            assert len(first) == 1 and await pids() == first
        for pool in ({"max_idle": 0}, {"max_idle_time": "1s"}, {"max_lifetime": "1ns"}):
            async with running(server, databases=["office"], connection_pool=pool, collection_interval="1h") as (receiver, sink, _):
                await sent(sink, ("table.count", "office"))
                await eventually(lambda: not receiver._sessions._open)
    finally:
        await connection.close()


async def test_goes_on_after_a_restart_of_the_server(server: Postgres) -> None:
    async with running(server, databases=["office"]) as (_, sink, host):
        await sent(sink, ("table.count", "office"))
        await asyncio.to_thread(server.stop)
        await eventually(lambda: host.statuses.get(STATUS))
        await asyncio.to_thread(server.restart)
        await sent(sink, ("table.count", "office"))
        await eventually(lambda: host.statuses.get(STATUS) is None)


async def test_tls_is_verified_when_asked_for(server: Postgres, tmp_path: Any) -> None:
    tls = {"insecure_skip_verify": False, "ca_file": str(server.certificate)}
    async with running(server, tls=tls, databases=["office"]) as (_, sink, host):
        await sent(sink, ("table.count", "office"))
        connection = await server.connect()
        encrypted = await connection.fetchval(
            "SELECT bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'kofagent'"
        )
        await connection.close()
        assert encrypted
    async with running(server, tls={"insecure_skip_verify": False}, databases=["office"]) as (_, sink, host):
        assert "certificate" in await eventually(lambda: host.statuses.get(STATUS))
        assert not sink.batches


async def test_a_socket(server: Postgres) -> None:
    async with running(server, transport="unix", endpoint=f"{server.sockets}:{server.port}", databases=["office"]) as (_, sink, _):
        await sent(sink, ("table.count", "office"))


async def test_a_wrong_password_is_said_and_not_told(server: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    async with running(server, password="another-one-entirely") as (_, sink, host):
        status = await eventually(lambda: host.statuses.get(STATUS))
        assert "password authentication failed" in status
    assert "another-one-entirely" not in status + caplog.text and not sink.batches


async def test_a_server_that_says_nothing_is_given_up(server: Postgres) -> None:
    kept = []  # a stream that nobody holds is closed, from Python 3.13 on
    silent = await asyncio.start_server(lambda *streams: kept.append(streams), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    try:
        async with running(server, endpoint=f"127.0.0.1:{port}", timeout="100ms") as (_, _, host):
            assert await eventually(lambda: host.statuses.get(STATUS)) == "database 'postgres': no answer within 0.1 s"
    finally:
        for _, writer in kept:
            writer.close()
        silent.close()
