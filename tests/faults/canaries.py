"""`Canaries`: secrets by whose looks they are known again, planted where the agent has to know them, and found where they must not be."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.servers import free_port

PLACES = (
    "exporter-header", "exporter-token", "environment", "scrape-password", "scrape-token", "scrape-proxy", "client-token",
    "wrong-token", "in-a-query", "malformed-data",
)  # fmt: skip
"""Where each is; the last three come from hostile clients."""


class Canaries:
    """`plant` them in a configuration, give `environment` to the agent and `of[...]` to the hostile; then ask what is `found`."""

    def __init__(self) -> None:
        self.of = {place: f"canary-{place}-{secrets.token_hex(8)}" for place in PLACES}
        self.environment = {"TRIAL_SECRET": self.of["environment"]}
        self.guarded, self.pages = free_port(), free_port()
        """Ports: OTLP/HTTP with a token, and the debug pages."""

    def plant(self, config: dict[str, Any], failing: str) -> None:
        """Into exporters, extensions and a job whose target `failing` is nothing but trouble; logs say all they can."""
        of, exporters, extensions = self.of, config["exporters"], config["extensions"]
        exporters["otlphttp/logs"]["headers"] = {"X-Api-Key": of["exporter-header"]}
        exporters["prometheusremotewrite"]["headers"] = {"X-Scope-Key": "${env:TRIAL_SECRET}"}
        extensions["bearertokenauth/out"] = {"token": of["exporter-token"]}
        exporters["otlphttp/traces"]["auth"] = {"authenticator": "bearertokenauth/out"}
        extensions["bearertokenauth/in"] = {"token": of["client-token"]}
        guarded = {"endpoint": f"127.0.0.1:{self.guarded}", "auth": {"authenticator": "bearertokenauth/in"}}
        config["receivers"]["otlp/guarded"] = {"protocols": {"http": guarded}}
        config["service"]["pipelines"]["traces"]["receivers"].append("otlp/guarded")
        extensions["zpages"] = {"endpoint": f"127.0.0.1:{self.pages}"}
        config["service"]["extensions"] += ["bearertokenauth/out", "bearertokenauth/in", "zpages"]
        config["service"]["telemetry"]["logs"]["level"] = "debug"
        targets = {"scrape_interval": "2s", "scrape_timeout": "2s", "static_configs": [{"targets": [failing]}]}
        config["receivers"]["prometheus"]["config"]["scrape_configs"] += [
            {"job_name": "password", "basic_auth": {"username": "me", "password": of["scrape-password"]}, **targets},
            {"job_name": "token", "authorization": {"credentials": of["scrape-token"]}, **targets},
            {"job_name": "proxy", "proxy_url": f"http://me:{of['scrape-proxy']}@127.0.0.1:1", **targets},
        ]

    async def public(self, metrics: str) -> dict[str, bytes]:
        """What anybody may ask for: the agent's own metrics and its debug pages."""
        out = {"/metrics": metrics.encode()}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(20)) as session:
            for page in ("servicez", "pipelinez", "extensionz", "featurez", "tracez"):
                async with session.get(f"http://127.0.0.1:{self.pages}/debug/{page}") as answer:
                    out[f"/debug/{page}"] = await answer.read()
        return out

    def found(self, texts: dict[str, bytes], files: Iterable[Path]) -> list[str]:
        """Which of them is in which of these texts and files."""
        texts = texts | {str(path): path.read_bytes() for path in files if path.is_file()}
        out = []
        for place, word in self.of.items():
            forms = (word.encode(), base64.b64encode(f"me:{word}".encode()))  # as a password is sent
            out += [f"{place} in {name}" for name, text in texts.items() if any(form in text for form in forms)]
        return out

    def arguments(self) -> str:
        """For the hostile process."""
        return json.dumps({"guarded": self.guarded, **self.of})
