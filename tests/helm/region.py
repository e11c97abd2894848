"""The storage of a KOF region as its child clusters see it: VictoriaMetrics and VictoriaLogs behind vmauth, which asks for a login,
Jaeger behind a proxy, all of it by TLS with certificates of a private CA. What arrived is read back through the same doors.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.parse
from pathlib import Path
from typing import Any

from tests.cluster.certificates import Keys
from tests.support.servers import Server, find, free_port, get, jaeger, victoria_logs, victoria_metrics

USERNAME = "child1"
PASSWORD = "s3cret-of-the-storage"
ROUTES = [  # path, parts of it that only the region knows, server
    ("/vm/insert/0/prometheus/.+", 4, "metrics"),
    ("/vm/select/0/prometheus/.+", 4, "metrics"),
    ("/vls/.+", 1, "logs"),
]


class Region:
    """Everything runs from `Region(folder, address)` to `stop()`; `address` is one that the cluster's pods reach."""

    def __init__(self, folder: Path, address: str) -> None:
        self._servers: list[Server] = []
        folder.mkdir(parents=True)
        self._keys = Keys(folder / "keys")
        self._keys.authority()
        self._keys.issue("server", "/CN=region", [f"IP:{address}"])
        self.ca = Path(self._keys.cert("ca")).read_text()
        self._tls = ssl.create_default_context(cadata=self.ca)
        try:
            self._start(folder, address)
        except BaseException:
            self.stop()
            raise

    def _start(self, folder: Path, address: str) -> None:
        server, self._metrics = victoria_metrics(folder)
        self._servers.append(server)
        server, self._logs = victoria_logs(folder)
        self._servers.append(server)
        server, traces, self._jaeger, _ = jaeger(folder)
        self._servers.append(server)
        self.vmauth = self._vmauth(folder, address)
        self.collector = self._proxy(folder, address, traces) + "/collector"

    def _vmauth(self, folder: Path, address: str) -> str:
        backends = {"metrics": self._metrics, "logs": self._logs}
        routes = [
            {"src_paths": [path], "url_prefix": backends[name], "drop_src_path_prefix_parts": parts} for path, parts, name in ROUTES
        ]
        config = folder / "vmauth.yaml"
        config.write_text(json.dumps({"users": [{"username": USERNAME, "password": PASSWORD, "url_map": routes}]}))
        url = f"https://{address}:{free_port()}"
        program = find("vmauth")
        assert program is not None
        command = [
            program,
            f"-auth.config={config}",
            f"-httpListenAddr={url.removeprefix('https://')}",
            "-tls",
            f"-tlsCertFile={self._keys.cert('server')}",
            f"-tlsKeyFile={self._keys.key('server')}",
        ]
        self._servers.append(Server("vmauth", command, folder, lambda: get(url + "/health", context=self._tls)[0] == 200))
        return url

    def _proxy(self, folder: Path, address: str, backend: str) -> str:
        url = f"https://{address}:{free_port()}"
        temporary = "".join(
            f"{name}_temp_path {folder}/nginx-{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = folder / "nginx.conf"
        config.write_text(f"""daemon off; user root; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log; events {{}}
            http {{ access_log off; {temporary} server {{
                listen {url.removeprefix("https://")} ssl;
                ssl_certificate {self._keys.cert("server")}; ssl_certificate_key {self._keys.key("server")};
                location /collector/ {{ proxy_pass {backend}/; }} }} }}""")
        program = find("nginx")
        assert program is not None
        command = [program, "-p", str(folder), "-c", str(config)]
        self._servers.append(Server("nginx", command, folder, lambda: get(url, context=self._tls)[0] == 404))
        return url

    def stop(self) -> None:
        """Ends all servers."""
        while self._servers:
            self._servers.pop().stop()

    def get(self, path: str, login: tuple[str, str] | None = (USERNAME, PASSWORD), **query: str | int) -> tuple[int, bytes]:
        """Status and body of vmauth's answer."""
        headers = {} if login is None else {"Authorization": "Basic " + base64.b64encode(":".join(login).encode()).decode()}
        return get(f"{self.vmauth}{path}?{urllib.parse.urlencode(query)}", context=self._tls, headers=headers)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Labels of the series that a query finds now."""
        found = json.loads(self.get("/vm/select/0/prometheus/api/v1/query", query=promql)[1])
        return [result["metric"] for result in found["data"]["result"]]

    def records(self, logsql: str) -> list[dict[str, Any]]:
        """Records that a query finds."""
        body = self.get("/vls/select/logsql/query", query=logsql, limit=1000)[1]
        return [json.loads(line) for line in body.splitlines()]

    def spans(self, service: str) -> list[dict[str, Any]]:
        """Attributes of the resource of each span of a service."""
        status, body = get(f"{self._jaeger}/api/traces?{urllib.parse.urlencode({'service': service, 'limit': 100})}")
        assert status == 200, body
        return [
            {tag["key"]: tag["value"] for tag in trace["processes"][span["processID"]]["tags"]}
            for trace in json.loads(body)["data"]
            for span in trace["spans"]
        ]

    def taken(self) -> dict[str, float]:
        """How many samples and log records the storage has taken."""
        return {"metrics": _sum(self._metrics, "vm_rows_inserted_total"), "logs": _sum(self._logs, "vl_rows_ingested_total")}


def _sum(url: str, name: str) -> float:
    lines = get(f"{url}/metrics")[1].decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))
