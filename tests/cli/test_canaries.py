"""A running agent whose configuration is full of secrets, with backends that repeat what they were sent: nobody is shown one.

`tests/config/test_redact.py` has the options of every component, in `render` and in errors; this is what only a running agent shows:
its log at level debug, its metrics, its pages, its files, and `explain`.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kofagent.cli.main import main
from kofagent.component import registry
from kofagent.config.load import load_config
from kofagent.pipeline.service import Service
from tests.support.certificates import Authority
from tests.support.components import eventually
from tests.support.servers import free_port


class Secrets:
    """Words that are known again, by the place that has them."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        return self.of.setdefault(place, f"canary-{len(self.of)}-{place}")

    def found(self, name: str, text: bytes) -> list[str]:
        out = []
        for place, word in self.of.items():
            forms = (word.encode(), base64.b64encode(f"me:{word}".encode()), base64.b64encode(f"id:{word}".encode()))
            out += [f"{place} in {name}" for form in forms if form in text]
        return out


async def echo(request: web.Request) -> web.Response:
    """What a hostile, or only a talkative, server answers: all that it was sent."""
    said = f"{request.method} {request.raw_path} {dict(request.headers)} {(await request.read())[:2000]!r}"
    if request.path == "/token":
        return web.json_response({"error": said}, status=400)
    return web.Response(status=503, text=said, headers={"X-Said": request.raw_path[:200]})


def configuration(secret: Secrets, echoing: str, files: dict[str, str], ports: dict[str, int], state: Path) -> dict[str, Any]:
    every = {"scrape_interval": "100ms", "scrape_timeout": "100ms"}
    target = {**every, "static_configs": [{"targets": [echoing]}]}
    retry = {"initial_interval": "10ms", "max_interval": "20ms"}
    url = f"http://me:{secret('login-of-an-endpoint')}@{echoing}/v1?api_key={secret('query-of-an-endpoint')}"
    keys = {"cert_file": files["cert"], "key_pem": files["key"]}
    own_keys = {"cert_file": files["cert"], "key": files["key"]}
    oauth = {
        "client_id": "id",
        "client_secret": secret("scrape-oauth"),
        "token_url": f"http://{echoing}/token?k={secret('token-url')}",
    }
    return {
        "receivers": {
            "otlp": {
                "protocols": {
                    "http": {"endpoint": f"127.0.0.1:{ports['otlp']}"},
                    "grpc": {"endpoint": "127.0.0.1:0", "tls": keys, "auth": {"authenticator": "basicauth/in"}},
                }
            },
            "prometheus": {
                "api_server": {"enabled": True, "server_config": {"endpoint": f"127.0.0.1:{ports['api']}"}},
                "config": {
                    "scrape_configs": [
                        {"job_name": "a", **target, "basic_auth": {"username": "me", "password": secret("scrape-password")}},
                        {"job_name": "b", **target, "authorization": {"credentials": secret("scrape-token")}},
                        {"job_name": "c", **target, "params": {"token": [secret("scrape-parameter")]}},
                        {"job_name": "d", **target, "http_headers": {"X-Api-Key": {"secrets": [secret("scrape-header")]}}},
                        {"job_name": "e", **target, "proxy_url": f"http://me:{secret('scrape-proxy')}@127.0.0.1:1"},
                        {"job_name": "f", **target, "oauth2": oauth},
                        {"job_name": "g", **target, "scheme": "https", "tls_config": own_keys},
                        {"job_name": "h", **target, "bearer_token": "${env:CANARY_IN_ENV}"},
                        {
                            "job_name": "i",
                            "http_sd_configs": [
                                {
                                    "url": f"http://me:{secret('sd-login')}@{echoing}/sd?token={secret('sd-query')}",
                                    "authorization": {"credentials": secret("sd-token")},
                                    "refresh_interval": "100ms",
                                }
                            ],
                        },
                    ]
                },
            },
        },
        "processors": {"batch": {}},
        "exporters": {
            "otlphttp/url": {"endpoint": url, "retry_on_failure": retry, "sending_queue": {"storage": "file_storage"}},
            "otlphttp/headers": {
                "endpoint": f"http://{echoing}",
                "headers": {"X-Api-Key": secret("header"), "X-Env": "${env:CANARY_IN_ENV}"},
                "proxy_url": "",
                "retry_on_failure": retry,
                "sending_queue": {"storage": "file_storage"},
            },
            **{
                f"otlphttp/{auth}": {
                    "endpoint": f"http://{echoing}",
                    "auth": {"authenticator": auth},
                    "retry_on_failure": retry,
                    "sending_queue": {"storage": "file_storage"},
                }
                for auth in ("basicauth", "bearertokenauth", "oauth2client", "headers_setter")
            },
            "otlphttp/proxy": {
                "endpoint": f"http://{echoing}",
                "proxy_url": f"http://me:{secret('proxy')}@127.0.0.1:1",
                "retry_on_failure": retry,
                "sending_queue": {"storage": "file_storage"},
            },
            "otlp": {
                "endpoint": echoing,
                "headers": {"x-api-key": secret("grpc-header")},
                "tls": {"insecure": True},
                "retry_on_failure": retry,
                "sending_queue": {"storage": "file_storage"},
            },
            "prometheusremotewrite": {
                "endpoint": f"http://{echoing}/write?password={secret('remote-write-query')}",
                "headers": {"Authorization": f"Bearer {secret('remote-write-header')}"},
                "retry_on_failure": retry,
            },
            "debug": {"verbosity": "basic"},
        },
        "extensions": {
            "basicauth": {"client_auth": {"username": "me", "password": secret("basicauth")}},
            "basicauth/in": {"htpasswd": {"inline": f"me:{secret('htpasswd')}"}},
            "bearertokenauth": {"token": secret("bearertokenauth")},
            "oauth2client": {
                "client_id": "id",
                "client_secret": secret("oauth2client"),
                "token_url": f"http://{echoing}/token",
                "endpoint_params": {"password": secret("oauth2client-parameter")},
            },
            "headers_setter": {"headers": [{"key": "X-Token", "value": secret("headers_setter")}]},
            "zpages": {"endpoint": f"127.0.0.1:{ports['zpages']}"},
            "health_check": {"endpoint": f"127.0.0.1:{ports['health']}"},
            "file_storage": {"directory": str(state), "create_directory": True},
        },
        "service": {
            "extensions": [
                "basicauth", "basicauth/in", "bearertokenauth", "oauth2client", "headers_setter", "zpages", "health_check", "file_storage",
            ],
            "telemetry": {
                "logs": {"level": "debug", "output_paths": [str(state.parent / "agent.log")]},
                "metrics": {"address": f"127.0.0.1:{ports['metrics']}"},
            },
            "pipelines": {
                "logs": {
                    "receivers": ["otlp"],
                    "processors": ["batch"],
                    "exporters": [
                        "otlphttp/url", "otlphttp/headers", "otlphttp/basicauth", "otlphttp/bearertokenauth", "otlphttp/oauth2client",
                        "otlphttp/headers_setter", "otlphttp/proxy", "otlp",
                    ],
                },
                "metrics": {"receivers": ["prometheus"], "exporters": ["prometheusremotewrite", "debug"]},
            },
        },
    }  # fmt: skip


PAGES = {
    "metrics": ["/metrics"],
    "zpages": [f"/debug/{page}" for page in ("servicez", "pipelinez", "extensionz", "featurez", "tracez")],
    "health": ["/"],
    "api": ["/api/v1/targets", "/api/v1/scrape_pools", "/api/v1/status/config", "/api/v1/status/runtimeinfo"],
}


@pytest.mark.slow
async def test_nothing_that_a_running_agent_shows_has_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = Secrets()
    monkeypatch.setenv("CANARY_IN_ENV", secret("environment"))
    authority = Authority(tmp_path)
    cert = authority.issue("server")
    pem = Path(cert.key).read_text()
    secret.of["key"] = pem.splitlines()[1]
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    echoing = f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
    ports = {name: free_port() for name in ("otlp", *PAGES)}
    files = {"cert": cert.cert, "key": pem}
    file = tmp_path / "otel.yaml"
    file.write_text(json.dumps(configuration(secret, echoing, files, ports, tmp_path / "state")))
    shown: dict[str, bytes] = {}
    service = Service(load_config([str(file)], registry))
    await service.start()
    try:
        async with aiohttp.ClientSession() as client:
            record = {"body": {"stringValue": "harmless"}}
            logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
            headers = {"Authorization": f"Bearer {secret('of-a-client')}"}
            url = f"http://127.0.0.1:{ports['otlp']}/v1/logs?token={secret('query-of-a-client')}"
            async with client.post(url, json=logs, headers=headers) as answer:
                assert answer.status == 200  # on disk for all of them

            def troubled() -> bool:
                status = service.status()
                targets = service.graph.receivers["prometheus"].pools  # type: ignore[attr-defined]
                down = [target.last_error for pool in targets.values() for target in pool.targets]
                return (
                    len(down) == 8
                    and all(down)
                    and all(status.get(f"exporter/{id}") for id in service.graph.exporters if id != "debug")
                )

            await eventually(troubled)
            for name, pages in PAGES.items():
                for page in pages:
                    async with client.get(f"http://127.0.0.1:{ports[name]}{page}") as answer:
                        shown[page] = await answer.read()
                        assert shown[page], page
    finally:
        await service.stop()
        await runner.cleanup()
    for pipeline in ("logs", "metrics"):
        assert main(["explain", pipeline, "--config", str(file)]) == 0
    assert main(["render", "--config", str(file)]) == 0
    out = capsys.readouterr()
    shown |= {"stdout": out.out.encode(), "stderr": out.err.encode(), "log": (tmp_path / "agent.log").read_bytes()}
    kept = {str(path.relative_to(tmp_path)): path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}
    assert any(b"harmless" in data for data in kept.values())  # the files are those that have the data
    assert b"debug" in shown["log"] and len(shown["log"].splitlines()) > 20
    shown["status"] = repr(service.status()).encode()
    assert [leak for name, text in {**shown, **kept}.items() for leak in secret.found(name, text)] == []
    assert len(secret.of) > 25
