"""`collectors-values.yaml` to a collector configuration, every value with the layer, file and line that set it.

Files of `--values` are laid over each other, then over the generation's defaults, as Helm does; the result is laid over what
the generation makes of `kof.*` and `global.*`. Credentials stay references, so what is rendered holds no secret.
"""

from __future__ import annotations

import importlib.resources
import os
from collections.abc import Sequence
from typing import Protocol

from pydantic import BaseModel, ValidationError

from kofagent.config.errors import ConfigErrors, Place, Problem, suggest
from kofagent.config.load import read_config
from kofagent.config.merge import Deleted, merge_files, merge_helm
from kofagent.config.source import load_file, parse
from kofagent.config.tree import Node
from kofagent.config.validation_errors import problems_of
from kofagent.values import kof_0_1_1, kof_0_3_0, kof_1
from kofagent.values.files import lay_over, read_values
from kofagent.values.generated import Values, check_values
from kofagent.values.model import CONFIG_SECTIONS, OTHERS, ROLES, Global, Kof
from kofagent.values.places import newer_keys
from kofagent.values.rendered import Rendered
from kofagent.values.versions import find_version, versions


class Generation(Protocol):
    """What a generation of KOF's values makes of them: a module of this room."""

    NAME: str
    PIPELINES: str
    """Folder of its default pipelines, below that of all."""

    @property
    def COLLECTORS(self) -> type[BaseModel]:  # noqa: N802 - a constant
        """The options of `collectors`."""
        ...

    def generate(self, values: Values, role: str) -> Node:
        """What is written for the user beneath the default pipelines."""
        ...

    def adjust(self, config: Node, values: Values, role: str) -> None:
        """Changes the configuration where the user's part cannot."""
        ...


GENERATIONS: dict[str, Generation] = {module.NAME: module for module in (kof_0_1_1, kof_0_3_0)}
DEFAULT_GENERATION = "0.3.0"
_SUFFIX = {"node": ("node-exporter", "daemonset"), "k8scluster": ("k8s-cluster", "deployment")}


def render_values(
    files: Sequence[str],
    role: str | None = None,
    *,
    collector: str | None = None,
    part: str | None = None,
    generation: str | None = None,
    release: str = "kof-collectors",
    namespace: str = "kof",
    over: Sequence[str] = (),
    trees: Sequence[Node] = (),
) -> Rendered:
    """Renders a role, or a collector of KOF 1.2 and later, from values files. Raises `ConfigErrors` if they cannot be read at all,
    belong to another generation, or turn the collectors off; everything else that is wrong is in `errors` of the best possible
    rendering.

    `part` is the part of an umbrella chart's file (`kof-child`, ...), if it has several. `over` are collector configurations
    merged over the result, as the collector merges one `--config` over another, except that their `service.extensions` are started
    in addition to the others. `trees` are values over those of the files.
    """
    if collector is not None:
        if is_older(generation):
            hint = f"use --role {' or --role '.join(ROLES)}"
            raise ConfigErrors([Problem((), f"KOF {generation} has roles instead of collectors", hint, Place("--collector"))])
        return kof_1.render_collector(
            [*read_values(files), *trees], collector, part=part, version=generation, release=release, namespace=namespace, over=over
        )
    if role not in ROLES:
        raise ConfigErrors([Problem((), f"unknown role {role!r}", suggest(str(role), ROLES), Place("--role"))])
    trees = [*read_values(files), *trees]
    module = _generation(trees, generation)
    user = merge_files(trees) if trees else Node({})
    merged = merge_helm(_defaults(module), user)
    values = Values(merged.node)
    errors = _check(user, module)
    if not values.flag("collectors", "enabled"):
        problem = merged.node.problem(("collectors", "enabled"), "the collectors are turned off", "set it to true to run them")
        raise ConfigErrors([*errors, problem])
    config, deleted = _configuration(values, role, module)
    errors += check_values(values)
    missing, empty = _empty_endpoints(config, values, role)
    errors += empty
    if over:
        config = lay_over(config, read_config(over))
    suffix, mode = _SUFFIX[role]
    return Rendered(
        module.NAME,
        role,
        f"{release}-{suffix}",
        mode,
        config,
        merged.node.get("collectors", role, "env"),
        role == "node" and values.flag("collectors", role, "run_as_root"),
        merged.node,
        [*(d for d in merged.deleted if d.path[:2] == ("collectors", role)), *deleted],
        errors,
        missing,
    )


def is_newer(files: Sequence[str]) -> bool:
    """Whether the keys of values files are those of KOF 1.2 and later."""
    return any(newer_keys(tree) for tree in read_values(files))


def collector_names(files: Sequence[str], part: str | None, generation: str | None) -> list[str]:
    """The collectors that run with values of KOF 1.2 and later."""
    return kof_1.collector_names(read_values(files), part, generation)


def is_older(generation: str | None) -> bool:
    """Whether a generation is one of those with roles; an unknown one is an error."""
    if generation is None or generation in ("auto", *GENERATIONS):
        return generation in GENERATIONS
    if find_version(generation) is None:
        hint = suggest(generation, GENERATIONS, limit=0) or f"use {', '.join(GENERATIONS)}, or {versions()[-1]} to {versions()[0]}"
        raise ConfigErrors([Problem((), f"unknown generation {generation!r}", hint, Place("--generation"))])
    return False


def _generation(trees: Sequence[Node], wanted: str | None) -> Generation:
    """The module of a generation with roles: the requested one, else the newest, if the keys do not say that it is newer."""
    what, hint = "is a key of KOF 1.2 and later, whose values have collectors instead of roles", "use --collector NAME"
    newer = [tree.problem(way, what, hint) for tree in trees for way in newer_keys(tree)]
    if newer:
        raise ConfigErrors(newer)
    if wanted is not None and wanted != "auto" and not is_older(wanted):
        problem = Problem((), f"KOF {wanted} has collectors instead of roles", "use --collector NAME", Place("--role"))
        raise ConfigErrors([problem])
    return GENERATIONS[DEFAULT_GENERATION if wanted in (None, "auto") else wanted]


def pipelines_directory() -> str:
    """The directory of the default pipelines: inside the installed package, or at the root of a checkout."""
    package = str(importlib.resources.files("kofagent"))
    inside = os.path.join(package, "pipelines")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "pipelines")


def _defaults(module: Generation) -> Node:
    text = (importlib.resources.files("kofagent.values") / "defaults" / f"{module.NAME}.yaml").read_text("utf-8")
    tree, _ = parse(text, f"kofagent/values/defaults/{module.NAME}.yaml", layer="default")
    for role in ROLES:
        label = "/".join(filter(None, ("pipelines", module.PIPELINES, f"{role}.yaml")))
        config = load_file(os.path.join(pipelines_directory(), module.PIPELINES, f"{role}.yaml"), layer="default", label=label)
        collectors = tree.value["collectors"].value
        collectors[role] = merge_files([collectors.get(role, Node({}, config.origin)), config])
    return tree


def _check(user: Node, module: Generation) -> list[Problem]:
    """Unknown keys and wrong types in what kofagent reads; keys of other charts are not checked."""
    errors: list[Problem] = []
    known = ("global", "kof", "collectors", *OTHERS)
    for key in user.names():
        if key not in known and not key.startswith(("x-", ".")):
            errors.append(user.problem((key,), "unknown key", suggest(key, known)))
    # What the user did not write needs no check, and the defaults of 0.1.1 have more than its users may write.
    for key, model in (("global", Global), ("kof", Kof), ("collectors", module.COLLECTORS)):
        node = user.get(key)
        if node is None or node.value is None:
            continue
        if not node.is_map:
            errors.append(user.problem((key,), "must be a map", "write 'key: value' lines below it"))
            continue
        try:
            model.model_validate(node.plain())
        except ValidationError as error:
            errors += problems_of(error, model, user, (key,))
    for name in (user.get("global") or Node({})).names():
        if name not in Global.model_fields:
            hint = suggest(name, Global.model_fields, limit=0)
            if hint:
                errors.append(user.problem(("global", name), "unknown key", hint))
    return errors


def _configuration(values: Values, role: str, module: Generation) -> tuple[Node, list[Deleted]]:
    own = values.tree.get("collectors", role) or Node({})
    sections = {key: own.value[key].copy() for key in own.names() if key in CONFIG_SECTIONS and _usable(own.value[key])}
    generated = module.generate(values, role)
    merged = merge_helm(generated, Node(sections, own.origin))
    config = merged.node
    module.adjust(config, values, role)
    # A section without content is not rendered; `extensions: {}` stays, as upstream renders it.
    order = {key: i for i, key in enumerate(CONFIG_SECTIONS)}
    config.value = dict(sorted(config.value.items(), key=lambda item: order.get(item[0], len(order))))
    return config, [Deleted(("collectors", role, *d.path), d.by, d.was) for d in merged.deleted]


def _usable(section: Node) -> bool:
    return section.value is None or section.is_map


def _empty_endpoints(config: Node, values: Values, role: str) -> tuple[frozenset[str], list[Problem]]:
    """Pipelines that send to an exporter that was not generated because its endpoint is empty."""
    sent = {
        "logs": "otlphttp/logs" if role == "node" and "otlphttp/logs" in _ends(config) else "otlphttp",
        "metrics": "prometheusremotewrite",
        "traces": "otlphttp/traces",
    }
    problems, missing = [], set()
    for signal, id in sent.items():
        if values.text("kof", signal, "endpoint") or config.get("exporters", id) is not None:
            continue
        for name, node in _pipelines(config):
            ends = node.get("exporters")
            if ends is not None and ends.is_list and id in ends.plain():
                missing.add(id)
                path = ("kof", signal, "endpoint")
                problems.append(
                    values.tree.problem(
                        path,
                        f"is empty, but the pipeline {name!r} of {role} sends to {id!r}",
                        f"set an endpoint, or set collectors.{role}.service.pipelines.{name}.exporters",
                    )
                )
    return frozenset(missing), problems


def _pipelines(config: Node) -> list[tuple[str, Node]]:
    node = config.get("service", "pipelines")
    return [(name, node.value[name]) for name in node.names()] if node is not None else []


def _ends(config: Node) -> set[str]:
    out: set[str] = set()
    for _, node in _pipelines(config):
        ends = node.get("exporters")
        out |= {e for e in ends.plain() if isinstance(e, str)} if ends is not None and ends.is_list else set()
    return out
