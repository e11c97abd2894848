"""Connections to the databases of one server: one to each database, kept from one collection to the next."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kofagent.component.protocols import StartError
from kofagent.net.tls import ClientTls
from kofagent.receivers.postgresql.config import Config

if TYPE_CHECKING:
    import asyncpg

TIMEOUT = 10.0
"""Seconds for a connection and for each query, unless `timeout` says otherwise."""
CLOSE_TIMEOUT = 1.0
"""Seconds until a connection that is closed is cut."""
LONGEST = 300
"""Characters of the server's words that a message repeats."""


class DatabaseError(Exception):
    """The server or a database did not answer a question; the text is a sentence that has no secret."""


class Sessions:
    """Asks databases. A connection that failed is closed, and the next question to its database makes a new one."""

    def __init__(self, config: Config) -> None:
        """StartError that names the extra that is not installed, or the file that is not usable."""
        try:
            import asyncpg
        except ImportError:
            raise StartError("postgresql needs asyncpg; install kofagent[postgresql]") from None
        self._connect = asyncpg.connect
        self._lost = (OSError, EOFError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
        self._errors = (*self._lost, asyncpg.PostgresError, ValueError)
        self._gone = asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError
        self._config = config
        self._host, self._port = config.address()
        self._timeout = config.timeout or TIMEOUT
        self._tls = None if config.tls.insecure else ClientTls(config.tls)
        if self._tls is not None:
            self._tls.check()
        pool = config.connection_pool
        self._keep = pool.max_idle > 0 and not 0 < pool.max_idle_time < config.collection_interval
        self._lifetime = pool.max_lifetime
        self._open: dict[str, tuple[asyncpg.Connection[asyncpg.Record], float]] = {}

    async def ask(self, database: str, query: str, *arguments: object) -> Sequence[Any]:
        """The rows of the answer; DatabaseError when there is none within the time limit."""
        connection = await self._connection(database)
        try:
            rows: Sequence[Any] = await connection.fetch(query, *arguments, timeout=self._timeout)
        except self._errors as error:
            if isinstance(error, (*self._lost, *self._gone)):
                self._cut(database)
            raise self._failure(database, error) from None
        except asyncio.CancelledError:
            self._cut(database)
            raise
        return rows

    async def finish(self, databases: Iterable[str]) -> None:
        """After a collection that read `databases`: closes connections to others, and those that are not to be kept."""
        wanted = frozenset(databases) if self._keep else frozenset()
        old = time.monotonic() - self._lifetime if self._lifetime else float("-inf")
        for database in [name for name, (_, since) in self._open.items() if name not in wanted or since < old]:
            await self._close(database)

    async def close(self) -> None:
        """Closes all connections; takes a second for each that the server does not let go."""
        for database in list(self._open):
            await self._close(database)

    async def _connection(self, database: str) -> asyncpg.Connection[asyncpg.Record]:
        found = self._open.get(database)
        if found is not None and not found[0].is_closed():
            return found[0]
        config = self._config
        try:
            connection = await self._connect(
                host=self._host,
                port=self._port,
                user=config.username,
                password=config.password.get_secret_value(),
                database=database,
                ssl=False if self._tls is None else self._tls.context(),
                timeout=self._timeout,
                command_timeout=self._timeout,
                # none kept on the server, so that a pooler before it may give each query another connection
                statement_cache_size=0,
                server_settings={"application_name": "kofagent"},
            )
        except StartError as error:
            raise DatabaseError(f"database {database!r}: {error}") from None
        except self._errors as error:
            raise self._failure(database, error) from None
        self._open[database] = connection, time.monotonic()
        return connection

    def _failure(self, database: str, error: BaseException) -> DatabaseError:
        if isinstance(error, TimeoutError):
            said = f"no answer within {self._timeout:g} s"
        else:
            said = " ".join(str(error).split())[:LONGEST] or type(error).__name__
        secret = self._config.password.get_secret_value()
        return DatabaseError(f"database {database!r}: {said.replace(secret, '***') if secret in said else said}")

    def _cut(self, database: str) -> None:
        found = self._open.pop(database, None)
        if found is not None:
            found[0].terminate()

    async def _close(self, database: str) -> None:
        connection, _ = self._open.pop(database)
        try:
            await connection.close(timeout=CLOSE_TIMEOUT)
        except self._errors:
            connection.terminate()
        except asyncio.CancelledError:
            connection.terminate()
            raise
