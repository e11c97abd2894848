"""`http_sd_configs`: lists of targets as JSON from a URL (prometheus.io, http_sd). The last good list is kept on errors."""

from __future__ import annotations

import asyncio
import logging

from kofagent.config.redact import without_secrets
from kofagent.prometheus.client import Client, FetchError
from kofagent.prometheus.discovery.config import HttpSdConfig
from kofagent.prometheus.discovery.file import parse_groups
from kofagent.prometheus.discovery.group import Group, Update
from kofagent.wire.foreign_json import read_json

_LARGEST = 32 * 1024 * 1024


class HttpDiscovery:
    """One entry of `http_sd_configs`."""

    def __init__(self, config: HttpSdConfig, log: logging.Logger, user_agent: str) -> None:
        self._config = config
        self._log = log
        self._client = Client(config, user_agent)
        self._size = 0
        self._complained = ""

    async def run(self, update: Update) -> None:
        await self._client.start()
        try:
            while True:
                groups = await self._ask()
                if groups is not None:
                    gone = [Group(f"{self._config.url}:{i}", []) for i in range(len(groups), self._size)]
                    self._size = len(groups)
                    update(groups + gone)
                await asyncio.sleep(self._config.refresh_interval)
        finally:
            await self._client.stop()

    async def _ask(self) -> list[Group] | None:
        url, seconds = self._config.url, self._config.refresh_interval
        try:
            page = await self._client.get(
                url,
                {"Accept": "application/json", "Accept-Encoding": "gzip", "X-Prometheus-Refresh-Interval-Seconds": f"{seconds:g}"},
                seconds,
                _LARGEST,
            )
            if page.status != 200:
                raise FetchError(f"the server answered {page.status}")
            if page.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise FetchError("the answer is not application/json")
            groups = parse_groups(read_json(page.body), url, {"__meta_url": url})
        except (FetchError, ValueError) as error:
            if str(error) != self._complained:
                self._complained = str(error)
                self._log.warning("http_sd_configs: %s: %s; the previous targets stay", without_secrets(url), error)
            return None
        self._complained = ""
        return groups
