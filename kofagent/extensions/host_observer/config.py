"""Options of the `host_observer` extension."""

from __future__ import annotations

from pydantic import Field

from kofagent.config.base import ComponentConfig, Duration


class Config(ComponentConfig):
    """Options of upstream's host_observer extension."""

    refresh_interval: Duration = Field(10.0, gt=0, description="Time between two looks at the ports.")
