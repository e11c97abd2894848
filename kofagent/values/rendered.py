"""What a values file makes of one agent: the workload and its configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kofagent.config.errors import Path, Problem
from kofagent.config.merge import Deleted
from kofagent.config.tree import Node


@dataclass
class Rendered:
    """One role's or collector's workload as kof-collectors would make it."""

    generation: str
    role: str
    """`node`, `k8scluster`, or the key of a collector."""
    name: str
    mode: str
    config: Node
    """The collector configuration as upstream renders it, references unresolved."""
    env: Node | None
    """Environment of the container as it was written."""
    run_as_root: bool
    values: Node
    """User's values over the generation's defaults."""
    deleted: list[Deleted] = field(default_factory=list)
    errors: list[Problem] = field(default_factory=list)
    not_generated: frozenset[str] = frozenset()
    """Exporters that pipelines name and that are absent because their endpoint is empty; `errors` has the problem."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Other fields of the workload, of those generations whose values have them."""
    warnings: list[Problem] = field(default_factory=list)
    """Keys that do nothing, and how `meant` differs from `config`."""
    env_beside: tuple[Node, ...] = ()
    """Variables that `meant` has from other collectors."""
    meant: Node | None = None
    """The configuration that runs, where upstream's would not start or does not do what its author meant."""
    written: tuple[tuple[Node, Path], ...] = ()
    """Where parts of the configuration stand in the user's files: a tree, and the path of the part in it."""
    note: str = ""
    """How the generation was told, if it was not asked for."""

    @property
    def to_run(self) -> Node:
        """The configuration that kofagent runs."""
        return self.config if self.meant is None else self.meant

    @property
    def env_to_run(self) -> Node | None:
        """The environment that `to_run` needs."""
        if not self.env_beside:
            return self.env
        own = self.env or Node([])
        return Node([*own.value, *self.env_beside], own.origin)

    def manifest(self) -> dict[str, Any]:
        """`name`, `mode`, `env`, `config` and the other fields of the workload as plain data, those that apply."""
        out: dict[str, Any] = {"name": self.name, "mode": self.mode, **self.fields}
        if self.run_as_root and not self.fields:
            out["securityContext"] = {"runAsUser": 0}
        if self.env is not None and self.env.value:
            out["env"] = self.env.plain()
        return {**out, "config": self.config.plain()}
