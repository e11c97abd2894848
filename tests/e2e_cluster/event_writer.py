"""A stream of events for tests that look for each of them."""

from __future__ import annotations

import threading
import time

from tests.cluster import Cluster
from tests.cluster.api import Api


class Writer:
    """Writes events into the namespace default in a thread, whatever happens to the API server, with `pause` seconds between two."""

    def __init__(self, cluster: Cluster, pause: float = 0.002) -> None:
        self._api = Api(cluster.kubeconfig)
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.written: list[str] = []
        """Names of the events in order; each is also its event's message."""

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            name = f"event-{id(self)}-{number}"
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            try:
                status, _ = self._api.request(
                    "POST",
                    "/api/v1/namespaces/default/events",
                    {
                        "metadata": {"name": name, "namespace": "default"},
                        "type": "Warning" if number % 3 else "Normal",
                        "reason": "Test",
                        "message": name,
                        "firstTimestamp": now,
                        "lastTimestamp": now,
                        "count": 1,
                        "source": {"host": "node-1"},
                        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "web-0", "uid": "u1"},
                    },
                )
            except Exception:  # a stopped API server fails in many ways
                status = 0
            if status in (201, 409):  # 409: written, and the answer was lost
                self.written.append(name)
                number += 1
                time.sleep(self._pause)
            else:
                time.sleep(0.05)
