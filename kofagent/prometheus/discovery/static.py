"""`static_configs`: targets written in the configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kofagent.prometheus.discovery.config import StaticConfig
from kofagent.prometheus.discovery.group import Group, Update


class StaticDiscovery:
    """All `static_configs` of a job."""

    def __init__(self, configs: Sequence[StaticConfig]) -> None:
        self.groups = [
            Group(str(i), [{"__address__": target} for target in config.targets], config.labels) for i, config in enumerate(configs)
        ]

    async def run(self, update: Update) -> None:
        update(self.groups)
        await asyncio.Event().wait()
