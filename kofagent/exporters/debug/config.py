"""Options of the `debug` exporter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from kofagent.config.base import ComponentConfig
from kofagent.config.blocks import QueueBlock


class Config(ComponentConfig):
    """Options of upstream's debug exporter."""

    verbosity: Literal["basic", "normal", "detailed"] = Field(
        "basic", description="basic: one line per batch; normal: one line per item; detailed: everything."
    )
    sampling_initial: int = Field(2, ge=0, description="Batches printed at the start of each second.")
    sampling_thereafter: int = Field(1, ge=0, description="After those, every n-th batch is printed; 0: none.")
    use_internal_logger: bool = Field(True, description="Print to the agent's own log; false: to output_paths.")
    output_paths: list[str] | None = Field(
        None, description="Files, `stdout` or `stderr` to print to when use_internal_logger is false; default: stdout."
    )
    sending_queue: QueueBlock | None = Field(None, description="Accepted for compatibility; nothing is queued.")

    @model_validator(mode="after")
    def _paths(self) -> Config:
        if self.use_internal_logger and self.output_paths is not None:
            raise ValueError("output_paths needs use_internal_logger: false")
        if self.output_paths is not None and not self.output_paths:
            raise ValueError("output_paths is empty; name a file, stdout or stderr, or leave it out")
        return self
