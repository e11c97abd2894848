"""A real PostgreSQL server, run by an unprivileged user since it refuses to be run by root. TLS with `certificate`, or without."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.servers import Server, certificate, find, free_port

USER, PASSWORD = "kof", "s3cret-of-the-database"


class Postgres(Server):
    """The server; `endpoint` is host:port, `sockets` the folder of its socket. `stop` does not wait for its clients."""

    def __init__(self) -> None:
        postgres, initdb = find("postgres"), find("initdb")
        assert postgres is not None and initdb is not None, "PostgreSQL is not installed: run tests/servers/install.sh apt"
        # Not pytest's folder: another user may not look into that one.
        self.folder = Path(tempfile.mkdtemp(prefix="kofagent-postgres-"))
        self.sockets = self.folder
        self.port = free_port()
        self.endpoint = f"127.0.0.1:{self.port}"
        self.certificate, key = certificate(self.folder)
        word = self.folder / "word"
        word.write_text(PASSWORD)
        as_user: list[str] = []
        if os.getuid() == 0:
            for path in (self.folder, self.certificate, key, word):
                shutil.chown(path, "postgres", "postgres")
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        key.chmod(0o600)
        data = self.folder / "data"
        login = [f"--username={USER}", f"--pwfile={word}", "--auth=scram-sha-256"]
        subprocess.run(
            [*as_user, initdb, f"--pgdata={data}", "--no-sync", "--no-locale", "--encoding=UTF8", *login],
            check=True,
            capture_output=True,
            cwd=self.folder,
        )
        settings = {
            "fsync": "off",
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.sockets,
            "ssl": "on",
            "ssl_cert_file": self.certificate,
            "ssl_key_file": key,
            "shared_buffers": "16MB",
            "track_functions": "all",
            "autovacuum": "off",
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        super().__init__("postgres", [*as_user, postgres, "-D", str(data), *options], self.folder, self._answers)

    def _answers(self) -> bool:
        newest = self.output().rpartition("starting PostgreSQL")[2]
        return "ready to accept connections" in newest and "is shut down" not in newest

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Runs statements one by one."""

        async def run() -> None:
            connection = await self.connect(database)
            try:
                for statement in statements:
                    await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(run())

    async def connect(self, database: str = "postgres", user: str = USER) -> Any:
        """A connection that the caller closes."""
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user=user, password=PASSWORD, database=database, ssl=False, timeout=20
        )

    def stop(self, seconds: float = 15) -> int:
        """A fast shutdown: connections are ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(seconds)
        return super().stop(seconds)

    def remove(self) -> None:
        """Stops it and deletes its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.cache
def shared() -> Postgres:
    """One for all tests of this process that leave it as it was, stopped at the end."""
    server = Postgres()
    atexit.register(server.remove)
    return server
