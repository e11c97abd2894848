"""Rows of a server's statistics as OTLP metrics."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from kofagent import __version__
from kofagent.component.metric_options import selection
from kofagent.receivers.postgresql.catalog import CATALOG, RESOURCE_ATTRIBUTES, SCOPE
from kofagent.receivers.postgresql.config import Config
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.clock import now_ns
from kofagent.telemetry.signal import Signal
from kofagent.transform.otlp_metrics import MetricWriter, Pairs, resource_bytes

Row = Mapping[str, Any]

DATABASE = {
    "postgresql.commits": "xact_commit",
    "postgresql.rollbacks": "xact_rollback",
    "postgresql.deadlocks": "deadlocks",
    "postgresql.temp_files": "temp_files",
    "postgresql.temp.io": "temp_bytes",
    "postgresql.tup_updated": "tup_updated",
    "postgresql.tup_returned": "tup_returned",
    "postgresql.tup_fetched": "tup_fetched",
    "postgresql.tup_inserted": "tup_inserted",
    "postgresql.tup_deleted": "tup_deleted",
    "postgresql.blks_hit": "blks_hit",
    "postgresql.blks_read": "blks_read",
}
_BUFFERS = {
    "backend": "buffers_backend",
    "backend_fsync": "buffers_backend_fsync",
    "checkpoints": "buffers_checkpoint",
    "bgwriter": "buffers_clean",
}
_OPERATIONS = {"ins": "n_tup_ins", "upd": "n_tup_upd", "del": "n_tup_del", "hot_upd": "n_tup_hot_upd"}
_SOURCES = ("heap_read", "heap_hit", "idx_read", "idx_hit", "toast_read", "toast_hit", "tidx_read", "tidx_hit")


class Converter:
    """Collects the points of one batch, resource by resource. What is off, or NULL, leaves no trace."""

    def __init__(self, config: Config) -> None:
        self._on = {name: CATALOG[name].metric for name in config.on()}
        self._attributes, self._wanted = selection(RESOURCE_ATTRIBUTES, config.resource_attributes)
        self._writer = MetricWriter(SCOPE, __version__)
        self._instance = instance_of(config)
        self._start_ns = self._time_ns = now_ns()
        self._pending: list[tuple[str, float, Pairs]] = []

    def begin(self) -> None:
        """All points that follow have the time of now."""
        self._time_ns = now_ns()
        self._pending.clear()  # of a collection that broke off

    def on(self, names: Iterable[str]) -> bool:
        """Whether one of these metrics is sent."""
        return not self._on.keys().isdisjoint(names)

    def take(self) -> Batch | None:
        """What was collected since the last call."""
        payload, count = self._writer.take()
        return Batch(Signal.METRICS, payload, count) if count else None

    def add(self, name: str, value: float | None, attributes: Pairs = ()) -> None:
        """A point of the resource that `end` names."""
        if value is not None and name in self._on:
            self._pending.append((name, value, attributes))

    def end(self, **names: str) -> None:
        """The resource of the points added since the last call: `database`, `table` and `index` by name; none: the server."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        known = [(f"postgresql.{key}.name", name) for key, name in names.items()] + [("service.instance.id", self._instance)]
        resource = [(key, value) for key, value in known if key in self._attributes]
        if self._wanted is not None and not self._wanted(dict(resource)):
            return
        for name, value, attributes in pending:
            self._writer.add(self._on[name], value, attributes, start_ns=self._start_ns, time_ns=self._time_ns)
        self._writer.end_resource(resource_bytes(resource))

    def bgwriter(self, row: Row) -> None:
        """The background writer and checkpoints."""
        self.add("postgresql.bgwriter.buffers.allocated", row["buffers_alloc"])
        for source, column in _BUFFERS.items():
            self.add("postgresql.bgwriter.buffers.writes", row[column], (("source", source),))
        self.add("postgresql.bgwriter.checkpoint.count", row["checkpoints_req"], (("type", "requested"),))
        self.add("postgresql.bgwriter.checkpoint.count", row["checkpoints_timed"], (("type", "scheduled"),))
        self.add("postgresql.bgwriter.duration", row["checkpoint_sync_time"], (("type", "sync"),))
        self.add("postgresql.bgwriter.duration", row["checkpoint_write_time"], (("type", "write"),))
        self.add("postgresql.bgwriter.maxwritten", row["maxwritten_clean"])

    def standby(self, row: Row) -> None:
        """One connection of a standby."""
        client = ("replication_client", row["client"])
        self.add("postgresql.replication.data_delay", row["pending"], (client,))
        for operation in ("flush", "replay", "write"):
            lag = row[operation]
            if lag is not None:
                self.add("postgresql.wal.delay", lag, (("operation", operation), client))
                self.add("postgresql.wal.lag", round(lag), (("operation", operation), client))

    def lock(self, row: Row) -> None:
        """How many locks of a kind there are on a relation."""
        attributes = (("relation", row["relation"]), ("mode", row["mode"]), ("lock_type", row["locktype"]))
        self.add("postgresql.database.locks", row["locks"], attributes)

    def table(self, database: str, row: Row) -> None:
        """A table, as a resource of its own."""
        self.add("postgresql.rows", row["n_dead_tup"], (("state", "dead"),))
        self.add("postgresql.rows", row["n_live_tup"], (("state", "live"),))
        for operation, column in _OPERATIONS.items():
            self.add("postgresql.operations", row[column], (("operation", operation),))
        self.add("postgresql.table.size", row["size"])
        self.add("postgresql.table.vacuum.count", row["vacuum_count"])
        self.add("postgresql.sequential_scans", row["seq_scan"])
        for source in _SOURCES:
            self.add("postgresql.blocks_read", row[source], (("source", source),))
        self.end(database=database, table=f"{row['schema']}.{row['name']}")

    def index(self, database: str, row: Row) -> None:
        """An index, as a resource of its own."""
        self.add("postgresql.index.scans", row["idx_scan"])
        self.add("postgresql.index.size", row["size"])
        self.end(database=database, table=row["table"], index=row["name"])


def instance_of(config: Config) -> str:
    """`service.instance.id`: host:port, with this machine's name for a loopback address."""
    host, port = config.address()
    if config.transport == "tcp":
        try:
            here = ip_address(host).is_loopback
        except ValueError:
            here = host.lower() == "localhost"
        host = socket.gethostname() if here else host
    return f"{host}:{port}"
