"""The metrics and resource attributes of `postgresql`: name, unit, kind and whether they are on by default.

Facts of upstream's metadata (opentelemetry-collector-contrib 0.149, receiver/postgresqlreceiver), which
`tests/receivers/postgresql/test_catalog.py` holds a second copy of.
"""

from __future__ import annotations

from typing import NamedTuple

from kofagent.transform.otlp_metrics import Metric

SCOPE = "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/postgresqlreceiver"


class Entry(NamedTuple):
    """One metric of the catalogue."""

    metric: Metric
    enabled: bool


def _gauge(name: str, unit: str, description: str, *, on: bool = True, double: bool = False) -> Entry:
    return Entry(Metric(f"postgresql.{name}", unit, description, "gauge", double=double), on)


def _sum(name: str, unit: str, description: str, *, on: bool = True, monotonic: bool = True, double: bool = False) -> Entry:
    return Entry(Metric(f"postgresql.{name}", unit, description, "sum", monotonic=monotonic, double=double), on)


CATALOG: dict[str, Entry] = {
    entry.metric.name: entry
    for entry in (
        _sum("backends", "1", "Server processes of the database.", monotonic=False),
        _sum("bgwriter.buffers.allocated", "{buffers}", "Buffers allocated."),
        _sum("bgwriter.buffers.writes", "{buffers}", "Buffers written, by who wrote them."),
        _sum("bgwriter.checkpoint.count", "{checkpoints}", "Checkpoints performed."),
        _sum("bgwriter.duration", "ms", "Time that checkpoints spent on writing and syncing files.", double=True),
        _sum("bgwriter.maxwritten", "1", "Scans that the background writer ended because it had written too many buffers."),
        _sum("blks_hit", "{blks_hit}", "Blocks of the database found in the buffer cache.", on=False),
        _sum("blks_read", "{blks_read}", "Blocks of the database read from disk.", on=False),
        _sum("blocks_read", "1", "Blocks of the table that were read, by source."),
        _sum("commits", "1", "Transactions committed."),
        _gauge("connection.max", "{connections}", "Client connections that the server allows."),
        _sum("database.count", "{databases}", "Databases that are read.", monotonic=False),
        _gauge("database.locks", "{lock}", "Locks on relations.", on=False),
        _sum("db_size", "By", "Size of the database on disk.", monotonic=False),
        _sum("deadlocks", "{deadlock}", "Deadlocks.", on=False),
        _sum("function.calls", "{call}", "Calls of the function; needs the server's track_functions.", on=False),
        _sum("index.scans", "{scans}", "Scans of the index."),
        _gauge("index.size", "By", "Size of the index on disk."),
        _sum("operations", "1", "Operations on rows of the table."),
        _gauge("replication.data_delay", "By", "Log that a standby has not replayed yet."),
        _sum("rollbacks", "1", "Transactions rolled back."),
        _sum("rows", "1", "Rows of the table.", monotonic=False),
        _sum("sequential_scans", "{sequential_scan}", "Sequential scans of the table.", on=False),
        _sum("table.count", "{table}", "User tables of the database.", monotonic=False),
        _sum("table.size", "By", "Size of the table on disk.", monotonic=False),
        _sum("table.vacuum.count", "{vacuum}", "Times that the table was vacuumed by hand."),
        _sum("temp.io", "By", "Bytes that queries wrote to temporary files.", on=False),
        _sum("temp_files", "{temp_file}", "Temporary files.", on=False),
        _sum("tup_deleted", "{tup_deleted}", "Rows that queries deleted.", on=False),
        _sum("tup_fetched", "{tup_fetched}", "Rows that queries fetched.", on=False),
        _sum("tup_inserted", "{tup_inserted}", "Rows that queries inserted.", on=False),
        _sum("tup_returned", "{tup_returned}", "Rows that queries returned.", on=False),
        _sum("tup_updated", "{tup_updated}", "Rows that queries updated.", on=False),
        _gauge("wal.age", "s", "Time since a segment of the log was last archived."),
        _gauge("wal.delay", "s", "Time until a standby reported an operation on the log.", on=False, double=True),
        _gauge("wal.lag", "s", "Time until a standby reported an operation on the log, in whole seconds."),
    )
}
DEFAULTS: dict[str, bool] = {name: entry.enabled for name, entry in CATALOG.items()}
"""Whether a metric is on by default, by name."""
RESOURCE_ATTRIBUTES: dict[str, bool] = dict.fromkeys(
    (
        "postgresql.database.name",
        "postgresql.index.name",
        "postgresql.schema.name",
        "postgresql.table.name",
        "service.instance.id",
    ),
    True,
)
"""Whether an attribute is on by default, by name. As upstream's gate for it is off, a schema is in the name of the table."""
