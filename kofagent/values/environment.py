"""`collectors.<role>.env`: variables of the container, resolved the way Kubernetes would, from what this process can see."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from kofagent.config.errors import Path, Problem
from kofagent.config.expand import MissingSecret, find_secret, missing_secret
from kofagent.config.tree import Node
from kofagent.values.model import EnvEntry


def resolve_environment(
    env: Node | None, at: Path, environ: Mapping[str, str], *, by_name: bool = False
) -> tuple[dict[str, str], list[Problem]]:
    """The variables that `env`, which stands at a path, adds to the environment, and all the Secrets that were not found. Problems
    name an entry by its index, or by its name where the list was made of several.

    A `value` is taken as it is. `secretKeyRef` is looked up as every Secret is; if the variable itself is already set (in the
    pod's own environment), that is its value. ConfigMaps and pod fields can only come from the pod's environment; those that
    the chart adds to every collector are missing only where something reads them.
    """
    out: dict[str, str] = {}
    problems: list[Problem] = []
    if env is None or not env.is_list:
        return out, problems
    for index, node in enumerate(env.value):
        try:
            entry = EnvEntry.model_validate(node.plain())
        except ValidationError:
            continue  # reported with the other keys of the values
        path = (*at, entry.name if by_name else index)
        source = entry.valueFrom
        if source is None:
            out[entry.name] = entry.value or ""
        elif source.secretKeyRef is not None:
            found = find_secret(source.secretKeyRef.name, source.secretKeyRef.key, environ)
            if isinstance(found, str):
                out[entry.name] = found
            elif entry.name not in environ and not source.secretKeyRef.optional:
                places = (*found.looked, f"the environment variable {entry.name}")
                looked = MissingSecret(found.name, found.key, places, found.reason)
                place = node.get("valueFrom", "secretKeyRef", "name") or node
                problems.append(missing_secret(looked, place, path))
        elif node.origin.layer == "chart":
            if entry.name == "OTEL_K8S_NODE_NAME" and entry.name not in environ and "K8S_NODE_NAME" in environ:
                out[entry.name] = environ["K8S_NODE_NAME"]
        elif entry.name not in environ and not (source.configMapKeyRef is not None and source.configMapKeyRef.optional):
            message = f"the environment variable {entry.name} comes from the pod and is not set here"
            problems.append(Problem(path, message, "set it, or give it a value", node.origin.place))
    name = out.get("OTEL_K8S_NODE_NAME", environ.get("OTEL_K8S_NODE_NAME", ""))
    if name and "K8S_NODE_NAME" not in environ and "K8S_NODE_NAME" not in out:
        out["K8S_NODE_NAME"] = name  # as the operator adds it for what asks for the node by this name
    return out, problems
