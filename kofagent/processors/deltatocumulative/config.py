"""Options of `deltatocumulative`, in upstream's spelling."""

from __future__ import annotations

from pydantic import Field

from kofagent.config.base import ComponentConfig, Duration

UNLIMITED = (1 << 63) - 1


class Config(ComponentConfig):
    """Options of deltatocumulative."""

    max_stale: Duration = Field(300.0, gt=0, description="Time after which a stream without points is forgotten.")
    max_streams: int = Field(
        UNLIMITED, ge=0, description="Number of streams of which totals are held; points of others are dropped."
    )
