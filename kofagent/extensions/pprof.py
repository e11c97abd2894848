"""`pprof`: accepted, so that posted configurations run; profiles of Go's runtime have no counterpart here.

Upstream: extension/pprofextension of the collector's contrib. Nothing is listened to or written; a warning says so. What the
agent's memory and time go to is in its own metrics and, for a component that holds the event loop, in its log.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

from kofagent.component.protocols import Extension
from kofagent.config.base import ComponentConfig, Duration
from kofagent.config.errors import Problem

_WHY = "Accepted for compatibility; there are no profiles of a Go runtime."


class Dialer(ComponentConfig):
    """`dialer`."""

    timeout: Duration = Field(0.0, description=_WHY)


class Config(ComponentConfig):
    """Options of upstream's pprof extension."""

    endpoint: str = Field("localhost:1777", description=_WHY)
    dialer: Dialer = Field(Dialer(), description=_WHY)
    block_profile_fraction: int = Field(0, description=_WHY)
    mutex_profile_fraction: int = Field(0, description=_WHY)
    save_to_file: str = Field("", description=_WHY)

    def notices(self) -> Iterable[Problem]:
        """That it does nothing, also where no option is set."""
        yield Problem((), "has no effect: this agent has no profiles of a Go runtime", "remove it", warning=True)


class PProf(Extension[Config]):
    """Does nothing; see the module."""


COMPONENT = PProf
