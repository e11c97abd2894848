"""Real servers for tests: found on PATH or where tests/servers/install.sh puts them, started on free loopback ports.

A test that needs one carries `@pytest.mark.server("jaeger")`; where the server is absent the test is skipped and the end of the
run names it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(os.environ.get("KOFAGENT_SERVERS", Path.home() / ".cache" / "kofagent" / "servers"))

PYTHON_SERVERS = {"moto": "moto.server"}


def find(name: str) -> str | None:
    """The path of a server's program, None when it is not on this machine."""
    if name in PYTHON_SERVERS:
        import importlib.util

        return sys.executable if importlib.util.find_spec("moto") and importlib.util.find_spec("flask") else None
    built = ROOT / "bin" / name
    if built.exists():
        return str(built)
    # Debian has one folder for each major version
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    return shutil.which(name) or shutil.which(name, path=":".join(["/usr/lib/systemd", "/lib/systemd", *map(str, versions)]))


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(
    url: str, timeout: float = 10, context: ssl.SSLContext | None = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of a GET, also for 4xx and 5xx."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=timeout, context=context) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def get_json(url: str, **parameters: str) -> Any:
    """The JSON of a GET with these query parameters."""
    query = "?" + urllib.parse.urlencode(parameters) if parameters else ""
    return json.loads(get(url + query)[1])


def wait_until(condition: Callable[[], Any], seconds: float = 60, what: str = "condition") -> Any:
    """Polls until `condition()` is true and returns it; connection errors count as not yet."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = condition()
            if last:
                return last
        except (OSError, ValueError, KeyError, IndexError) as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what} not true within {seconds} s; last: {last!r}")


class Server:
    """A subprocess with its output in a file; `stop` ends it, `kill` is kill -9."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        ready: Callable[[], Any],
        *,
        env: dict[str, str] | None = None,
        seconds: float = 60,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.log = folder / f"{name}.log"
        self._out = self.log.open("ab")
        self._env = {**os.environ, **(env or {})}
        self._folder = folder
        self._ready = ready
        self._seconds = seconds
        self.process = self._spawn()
        self.wait_ready()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, stdout=self._out, stderr=subprocess.STDOUT, cwd=self._folder, env=self._env)

    def wait_ready(self) -> None:
        """Waits until the server answers; AssertionError with its output when it ended or never did."""
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.output()[-3000:]}")
            try:
                if self._ready():
                    return
            except (OSError, ValueError):
                pass
            time.sleep(0.05)
        self.stop()
        raise AssertionError(f"{self.name} not ready within {self._seconds} s:\n{self.output()[-3000:]}")

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def restart(self) -> None:
        """Starts it again with the same command."""
        self.stop()
        self._out = self.log.open("ab")
        self.process = self._spawn()
        self.wait_ready()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, then kill; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        self._out.close()
        return self.process.returncode


def _listens(port: int) -> Callable[[], bool]:
    def ready() -> bool:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True

    return ready


def _program(name: str) -> str:
    path = find(name)
    assert path is not None, f"{name} is not installed: run tests/servers/install.sh"
    return path


def victoria_metrics(folder: Path) -> tuple[Server, str]:
    """A single-node VictoriaMetrics; the URL of its root."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    return Server(
        "victoria-metrics",
        [
            _program("victoria-metrics"),
            f"-storageDataPath={folder}/vm",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-retentionPeriod=1",
            "-search.latencyOffset=0s",
        ],
        folder,
        lambda: get(url + "/health")[0] == 200,
    ), url


def victoria_logs(folder: Path) -> tuple[Server, str]:
    """VictoriaLogs; the URL of its root."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [_program("victoria-logs"), f"-storageDataPath={folder}/vl", f"-httpListenAddr=127.0.0.1:{port}"]
    return Server("victoria-logs", command, folder, lambda: get(url + "/health")[0] == 200), url


def jaeger(folder: Path) -> tuple[Server, str, str, str]:
    """Jaeger v2 in memory; URLs of OTLP/HTTP and of the query API, host:port of OTLP/gRPC."""
    http, grpc, query, query_grpc, health = (free_port() for _ in range(5))
    config = folder / "jaeger.yaml"
    config.write_text(
        json.dumps(
            {
                "service": {
                    "extensions": ["jaeger_storage", "jaeger_query", "healthcheckv2"],
                    "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
                    "telemetry": {"metrics": {"level": "none"}},
                },
                "extensions": {
                    "jaeger_storage": {"backends": {"mem": {"memory": {"max_traces": 10000}}}},
                    "jaeger_query": {
                        "storage": {"traces": "mem"},
                        "http": {"endpoint": f"127.0.0.1:{query}"},
                        "grpc": {"endpoint": f"127.0.0.1:{query_grpc}"},
                    },
                    "healthcheckv2": {"use_v2": True, "http": {"endpoint": f"127.0.0.1:{health}"}},
                },
                "receivers": {
                    "otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{http}"}, "grpc": {"endpoint": f"127.0.0.1:{grpc}"}}}
                },
                "exporters": {"jaeger_storage_exporter": {"trace_storage": "mem"}},
            }
        )
    )
    server = Server(
        "jaeger",
        [_program("jaeger"), f"--config={config}"],
        folder,
        lambda: get(f"http://127.0.0.1:{query}/api/services")[0] == 200,
    )
    return server, f"http://127.0.0.1:{http}", f"http://127.0.0.1:{query}", f"127.0.0.1:{grpc}"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate and key for localhost and 127.0.0.1, which is its own CA."""
    cert, key = folder / "tls.crt", folder / "tls.key"
    if not cert.exists():
        subprocess.run(
            [
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout",
                str(key),
                "-out",
                str(cert),
            ],
            check=True,
            capture_output=True,
        )
    return cert, key


def vmauth(folder: Path, routes: Sequence[dict[str, Any]], username: str, password: str) -> tuple[Server, str]:
    """vmauth with TLS and basic auth in front of backends (`url_map` entries); its https URL."""
    port = free_port()
    cert, key = certificate(folder)
    config = folder / "vmauth.yaml"
    config.write_text(json.dumps({"users": [{"username": username, "password": password, "url_map": list(routes)}]}))
    return Server(
        "vmauth",
        [
            _program("vmauth"),
            f"-auth.config={config}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-tls",
            f"-tlsCertFile={cert}",
            f"-tlsKeyFile={key}",
        ],
        folder,
        _listens(port),
    ), f"https://127.0.0.1:{port}"


def nginx(folder: Path, body: str, *, tls: bool = True) -> tuple[Server, str]:
    """nginx with one server block of this body; its URL."""
    port = free_port()
    lines = [
        "daemon off;",
        "user root;" if os.getuid() == 0 else "",
        f"pid {folder}/nginx.pid;",
        f"error_log {folder}/nginx-error.log;",
        "events { worker_connections 256; }",
        "http {",
        "access_log off;",
        "client_max_body_size 64m;",
    ]
    for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        lines.append(f"{name}_temp_path {folder}/nginx-{name};")
    lines.append(f"server {{ listen 127.0.0.1:{port}{' ssl' if tls else ''};")
    if tls:
        cert, key = certificate(folder)
        lines.append(f"ssl_certificate {cert}; ssl_certificate_key {key};")
    lines += [body, "} }"]
    config = folder / "nginx.conf"
    config.write_text("\n".join(lines))
    return Server(
        "nginx", [_program("nginx"), "-p", str(folder), "-c", str(config)], folder, _listens(port)
    ), f"{'https' if tls else 'http'}://127.0.0.1:{port}"


def node_exporter(folder: Path) -> tuple[Server, str]:
    """prometheus-node-exporter; host:port."""
    port = free_port()
    command = [_program("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{port}"]
    return Server(
        "prometheus-node-exporter", command, folder, lambda: get(f"http://127.0.0.1:{port}/metrics")[0] == 200
    ), f"127.0.0.1:{port}"


def prometheus(folder: Path, config: dict[str, Any], *flags: str) -> tuple[Server, str]:
    """A Prometheus with this configuration (JSON is YAML); its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))
    return Server(
        "prometheus",
        [
            _program("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
            *flags,
        ],
        folder,
        lambda: get(url + "/-/ready")[0] == 200,
    ), url


def moto(folder: Path) -> tuple[Server, str]:
    """moto's AWS; its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    return Server(
        "moto",
        [_program("moto"), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        folder,
        lambda: get(url + "/moto-api/")[0] == 200,
    ), url


def kofagent(folder: Path, *arguments: str, env: dict[str, str] | None = None, metrics_port: int | None = None) -> Server:
    """The agent itself as a user starts it; ready when its log says so."""
    log = folder / "kofagent.log"
    before = log.stat().st_size if log.exists() else 0

    def ready() -> bool:
        return b"everything is ready" in log.read_bytes()[before:]

    return Server(
        "kofagent",
        [sys.executable, "-m", "kofagent", *arguments],
        folder,
        ready,
        env={"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parents[2]), **(env or {})},
    )
