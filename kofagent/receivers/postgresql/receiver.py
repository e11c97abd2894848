"""The receiver `postgresql`."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from kofagent.component.log_limit import LogLimit
from kofagent.component.offering import Offer
from kofagent.component.polling import Polling
from kofagent.component.protocols import Context, Receiver
from kofagent.component.statuses import Statuses
from kofagent.receivers.postgresql import queries
from kofagent.receivers.postgresql.catalog import CATALOG
from kofagent.receivers.postgresql.config import Config
from kofagent.receivers.postgresql.converter import DATABASE, Converter, Row
from kofagent.receivers.postgresql.sessions import DatabaseError, Sessions
from kofagent.telemetry.batch import Batch
from kofagent.telemetry.signal import Signal

MAINTENANCE = "postgres"
"""The database that is asked about the server."""
NAMED = 10
"""Problems that the status names; the others are counted there."""
BGWRITER = tuple(name for name in CATALOG if name.startswith("postgresql.bgwriter."))
LAGS = ("postgresql.replication.data_delay", "postgresql.wal.delay", "postgresql.wal.lag")
TABLE = ("rows", "operations", "table.size", "table.vacuum.count", "sequential_scans", "blocks_read", "table.count")
INDEX = ("index.scans", "index.size")


class PostgreSql(Receiver[Config]):
    """Asks a server every `collection_interval`: first about itself and all databases, then each database about its tables."""

    signals = frozenset({Signal.METRICS})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._converter = Converter(config)
        self._sessions: Sessions | None = None
        self._polling: Polling | None = None
        self._version = 0
        self._log = LogLimit()
        self._statuses = Statuses(context)
        self._account = context.ledger.scraper(context.id, "postgresql")

    def explain(self) -> str:
        """The metrics that are on."""
        return f"{', '.join(sorted(self.config.on()))}\n"

    async def start(self) -> None:
        self._sessions = Sessions(self.config)
        self._polling = Polling(
            self.context,
            self._collect,
            Offer(self.context, self.outputs[Signal.METRICS], Signal.METRICS).or_drop,
            interval=self.config.collection_interval,
            initial_delay=self.config.initial_delay,
            report=self._statuses.of("collection"),
        )
        self._polling.start()

    async def stop(self) -> None:
        if self._polling is not None:
            polling, self._polling = self._polling, None
            await polling.stop()
        if self._sessions is not None:
            sessions, self._sessions = self._sessions, None
            await sessions.close()

    async def _collect(self) -> AsyncIterator[Batch]:
        """One batch about the server, and one for each page of tables, indexes or functions of a database."""
        assert self._sessions is not None
        problems: list[str] = []
        self._converter.begin()
        try:
            databases = await self._databases()
        except DatabaseError as error:
            self._failed(problems, error)
            self._tell(problems)
            return
        await self._server(databases, problems)
        for batch in self._taken():
            yield batch
        for database in databases:
            try:
                async for batch in self._database(database):
                    yield batch
            except DatabaseError as error:
                self._failed(problems, error)
        self._tell(problems)
        await self._sessions.finish([MAINTENANCE, *databases])

    async def _databases(self) -> list[str]:
        """The databases to read. DatabaseError when the server does not answer."""
        # Asked each time: a restart may have brought another version.
        self._version = (await self._ask(MAINTENANCE, queries.VERSION))[0][0]
        named = self.config.databases or [row[0] for row in await self._ask(MAINTENANCE, queries.DATABASES)]
        excluded = frozenset(self.config.exclude_databases)
        return [name for name in dict.fromkeys(named) if name not in excluded]

    async def _server(self, databases: list[str], problems: list[str]) -> None:
        """What the server knows of all its databases, then of itself. Each question fails for itself."""
        add, end = self._converter.add, self._converter.end
        values: dict[str, list[tuple[str, float | None]]] = {name: [] for name in databases}
        for query, columns in (
            (queries.BACKENDS, {"postgresql.backends": "backends"}),
            (queries.SIZES, {"postgresql.db_size": "size"}),
            (queries.DATABASE_STATISTICS, DATABASE),
        ):
            await self._read(problems, columns, query, functools.partial(_note, values, columns), databases)
        for database, found in values.items():
            for name, value in found:
                add(name, value)
            end(database=database)
        bgwriter = queries.BGWRITER if self._version < 170_000 else queries.BGWRITER_17
        add("postgresql.database.count", len(databases))
        await self._read(problems, BGWRITER, bgwriter, self._converter.bgwriter)
        await self._read(problems, LAGS, queries.REPLICATION, self._converter.standby)
        for name, query in (("postgresql.wal.age", queries.WAL_AGE), ("postgresql.connection.max", queries.MAX_CONNECTIONS)):
            await self._read(problems, (name,), query, functools.partial(_first, add, name))
        await self._read(problems, ("postgresql.database.locks",), queries.LOCKS, self._converter.lock)
        end()

    async def _read(
        self, problems: list[str], names: Iterable[str], query: str, read: Callable[[Row], None], *arguments: object
    ) -> None:
        if not self._converter.on(names):
            return
        try:
            rows = await self._ask(MAINTENANCE, query, *arguments)
        except DatabaseError as error:
            self._failed(problems, error)
            return
        for row in rows:
            read(row)

    async def _database(self, database: str) -> AsyncIterator[Batch]:
        """The batches of one database. DatabaseError when it does not answer; what it answered before is sent."""
        converter = self._converter
        tables = 0
        async for rows in self._pages(database, TABLE, queries.TABLES):
            for row in rows:
                converter.table(database, row)
            tables += len(rows)
            for batch in self._taken():
                yield batch
        if converter.on(["postgresql.table.count"]):
            converter.add("postgresql.table.count", tables)
            converter.end(database=database)
        async for rows in self._pages(database, ("function.calls",), queries.FUNCTIONS):
            for row in rows:
                converter.add("postgresql.function.calls", row["calls"], (("function", row["name"]),))
            converter.end(database=database)
            for batch in self._taken():
                yield batch
        async for rows in self._pages(database, INDEX, queries.INDEXES):
            for row in rows:
                converter.index(database, row)
            for batch in self._taken():
                yield batch
        for batch in self._taken():
            yield batch

    async def _pages(self, database: str, names: Iterable[str], query: str) -> AsyncIterator[Sequence[Any]]:
        """The rows of a query in pages, so that a database of very many tables is never held at once."""
        if not self._converter.on([f"postgresql.{name}" for name in names]):
            return
        last = 0
        while True:
            rows = await self._ask(database, query, last, queries.PAGE)
            yield rows
            if len(rows) < queries.PAGE:
                return
            last = rows[-1]["relid"]

    def _taken(self) -> Iterable[Batch]:
        batch = self._converter.take()
        if batch is None:
            return ()
        self._account.scraped(batch.count)
        return (batch,)

    async def _ask(self, database: str, query: str, *arguments: object) -> Sequence[Any]:
        assert self._sessions is not None
        return await self._sessions.ask(database, query, *arguments)

    def _failed(self, problems: list[str], error: DatabaseError) -> None:
        self._account.errored(1)
        problems.append(str(error))

    def _tell(self, problems: list[str]) -> None:
        """Sets the status; an error is logged when it comes, and its end."""
        found = list(dict.fromkeys(problems))
        more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
        sentence = "; ".join(found[:NAMED]) + more or None
        before = self._statuses.set("databases", sentence)
        if sentence is None and before is not None:
            self.context.log.info("works again: %s", before)
        elif sentence is not None and sentence != before and self._log.due(sentence):
            self.context.log.warning("%s (further cases are counted, not logged)", sentence)


def _note(values: dict[str, list[tuple[str, float | None]]], columns: Mapping[str, str], row: Row) -> None:
    values[row["name"]] += [(name, row[column]) for name, column in columns.items()]


def _first(add: Callable[[str, float | None], None], name: str, row: Sequence[Any]) -> None:
    add(name, row[0])
