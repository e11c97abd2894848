"""What the chart's templates must know of the defaults of KOF 1.2 and later: `helm/kofagent/kof-1.json` is generated from them.

    python -m kofagent.values.chart_defaults > helm/kofagent/kof-1.json

The agents have the whole defaults. Templates decide about pods and rights only, so what neither depends on is left out.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from kofagent.values.versions import COLLECTORS, NEWEST, read, stack_defaults, versions

_OPTIONS = ("k8sattributes", "resourcedetection", "k8s_observer", "k8sobjects", "k8s_cluster", "kubeletstats", "otlp", "prometheus")
"""Types whose options decide about ports and rights."""


def chart_defaults() -> dict[str, Any]:
    """Defaults by version, the chart's own ones beneath them, and blocks of presets."""
    presets = {name: block for name, block in read("presets", "preset").plain().items() if "+" not in name}
    return {
        "newest": NEWEST,
        "chart": _reduced(read("sub_chart", "chart").plain()),
        "presets": {name: _options(block) for name, block in presets.items()},
        "scrape_file": read("daemon_scrape_configs", "preset").plain(),
        "versions": {version: _reduced(stack_defaults(version).plain()) for version in versions()},
    }


def _reduced(stack: dict[str, Any]) -> dict[str, Any]:
    for holder in (stack.get("defaultCRConfig"), *(stack["collectors"].get(name) for name in COLLECTORS)):
        if holder and holder.get("config"):
            holder["config"] = _options(holder["config"])
    return stack


def _options(config: dict[str, Any]) -> dict[str, Any]:
    """A collector's configuration with the options of `_OPTIONS` only; what is null stays null."""
    out: dict[str, Any] = {}
    for section, components in config.items():
        if section in ("receivers", "processors", "extensions"):
            kept = {id: options for id, options in components.items() if id.partition("/")[0] in _OPTIONS}
            out[section] = kept
        elif section == "service":
            out[section] = {key: value for key, value in components.items() if key in ("pipelines", "extensions")}
    return out


def text() -> str:
    """The file: a line for each entry, so that a change is seen in few lines."""
    whole = chart_defaults()
    of_versions = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(stack, sort_keys=True)}" for name, stack in whole.pop("versions").items()
    )
    lines = [f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in whole.items()]
    return "{\n" + ",\n".join([*lines, f'"versions": {{\n{of_versions}\n}}']) + "\n}\n"


if __name__ == "__main__":
    sys.stdout.write(text())
