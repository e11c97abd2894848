"""A client of the cluster's API server for the tests' own needs: JSON in, JSON out, connections kept per thread."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ApiError(Exception):
    """An answer that is not 2xx."""

    def __init__(self, method: str, path: str, status: int, body: Any) -> None:
        message = body.get("message", "") if isinstance(body, dict) else str(body)[:300]
        super().__init__(f"{method} {path}: {status} {message}")
        self.status = status
        self.body = body


class Api:
    """Requests to one API server as one user (a kubeconfig with certificates or a token, as Keys.kubeconfig makes it)."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server: str = cluster["server"]
        self.context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        if "client-certificate-data" in user:
            pem = kubeconfig.with_suffix(".pem")
            pem.touch(mode=0o600)
            pem.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            self.context.load_cert_chain(pem)
        self._token: str | None = user.get("token")
        self._local = threading.local()

    def _connection(self) -> http.client.HTTPSConnection:
        found = getattr(self._local, "connection", None)
        if found is None:
            parts = urllib.parse.urlsplit(self.server)
            found = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=self.context, timeout=60)
            self._local.connection = found
        return found

    def request(self, method: str, path: str, body: Any = None, *, content: str = JSON) -> tuple[int, Any]:
        """Status and parsed body; a text body comes back as a string. A connection the server has closed is opened anew."""
        headers = {"Accept": JSON, "Content-Type": content}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        for attempt in (1, 2):
            connection = self._connection()
            try:
                connection.request(method, path, json.dumps(body) if body is not None else None, headers)
                answer = connection.getresponse()
                data = answer.read()
                break
            except (http.client.HTTPException, ConnectionError, ssl.SSLEOFError):
                connection.close()
                self._local.connection = None
                if attempt == 2:
                    raise
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data.decode(errors="replace")

    def get(self, path: str) -> Any:
        """The body of a GET; ApiError for anything but 2xx."""
        return self.call("GET", path)

    def call(self, method: str, path: str, body: Any = None, *, content: str = JSON) -> Any:
        """The body of an answer; ApiError for anything but 2xx."""
        status, answer = self.request(method, path, body, content=content)
        if not 200 <= status < 300:
            raise ApiError(method, path, status, answer)
        return answer

    def patch(self, path: str, body: Any) -> Any:
        """A JSON merge patch."""
        return self.call("PATCH", path, body, content=MERGE_PATCH)

    def create_all(self, path: str, bodies: Iterable[Any], *, threads: int = 16, done: Callable[[int], None] | None = None) -> int:
        """POSTs many objects at once (409 counts as there); how many."""

        def create(body: Any) -> None:
            status, answer = self.request("POST", path, body)
            if status not in (200, 201, 409):
                raise ApiError("POST", path, status, answer)

        count = 0
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(create, bodies):
                count += 1
                if done is not None:
                    done(count)
        return count
