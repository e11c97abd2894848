"""JSON Schema of a whole collector configuration, made from the options classes of the registered components.

Every scalar may also be a text with a reference (`${env:X}`), and every block may be null, as the configuration itself allows.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from kofagent.config.base import spellings
from kofagent.config.model import SECTIONS, SIGNALS, ServiceConfig
from kofagent.config.references import Registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REFERENCE = {"type": "string", "pattern": r"\$\{"}


def json_schema(registry: Registry) -> dict[str, Any]:
    """The schema of collector configuration files: every registered component with all its options, and `service`."""
    definitions: dict[str, Any] = {}
    sections: dict[str, Any] = {}
    for kind in SECTIONS:
        patterns: dict[str, Any] = {}
        for type in sorted(registry.TYPES.get(kind, ())):
            names = [type, *(old for old, new in registry.ALIASES.get(kind, {}).items() if new == type)]
            reference = _options(f"{kind}.{type}", registry.load(kind, type).Config, definitions)
            patterns[f"^({'|'.join(map(re.escape, names))})(/.+)?$"] = {"anyOf": [reference, {"type": "null"}]}
        sections[kind] = {"type": ["object", "null"], "patternProperties": patterns, "additionalProperties": False}
    service = _options("service", ServiceConfig, definitions)
    pipelines = definitions["service"]["properties"]["pipelines"]
    pipelines["propertyNames"] = {"pattern": f"^({'|'.join(SIGNALS)})(/.+)?$"}
    return {
        "$schema": DIALECT,
        "title": "kofagent configuration",
        "type": "object",
        "description": "OpenTelemetry Collector configuration as kofagent takes it.",
        "properties": {**sections, "service": service},
        "required": ["service"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def options_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of one options class, with all spellings of its keys and references allowed for scalars."""
    schema: dict[str, Any] = model.model_json_schema(schema_generator=_Generator, ref_template="#/$defs/{model}")
    return _with_references(schema)


def _options(name: str, model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """Adds an options class and the blocks in it to the definitions, each under a unique name."""
    schema = options_schema(model)
    for block, body in schema.pop("$defs", {}).items():
        definitions[f"{name}.{block}"] = _renamed(body, name)
    definitions[name] = _renamed(schema, name)
    return {"$ref": f"#/$defs/{name}"}


def _renamed(schema: Any, name: str) -> Any:
    if isinstance(schema, dict):
        return {
            k: v.replace("#/$defs/", f"#/$defs/{name}.") if k == "$ref" and isinstance(v, str) else _renamed(v, name)
            for k, v in schema.items()
        }
    return [_renamed(v, name) for v in schema] if isinstance(schema, list) else schema


def _with_references(schema: dict[str, Any]) -> dict[str, Any]:
    """Lets every property that is not a text be a reference too, and every property be null."""
    for body in (schema, *schema.get("$defs", {}).values()):
        for key, each in body.get("properties", {}).items():
            body["properties"][key] = _loosened(each)
    return schema


def _loosened(schema: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {k: schema[k] for k in ("description", "default", "deprecated") if k in schema}
    if isinstance(shown.get("default"), dict) and shown["default"]:
        del shown["default"]  # that of a block: each of its options has its own
    if schema.get("format") == "duration" and isinstance(shown.get("default"), int | float):
        shown["default"] = duration_text(shown["default"])
    rest = {k: v for k, v in schema.items() if k not in ("description", "default", "title", "deprecated")}
    if not rest:
        return shown
    if "items" in rest and isinstance(rest["items"], dict):
        rest["items"] = _loosened(rest["items"])
    if isinstance(rest.get("additionalProperties"), dict):
        rest["additionalProperties"] = _loosened(rest["additionalProperties"])
    choices = rest["anyOf"] if set(rest) == {"anyOf"} else [rest]
    if not any(c.get("type") == "null" for c in choices):
        choices = [*choices, {"type": "null"}]
    if not any(c.get("type") == "string" and not set(c) & {"enum", "const", "pattern"} for c in choices):
        choices = [*choices, REFERENCE]
    return {**shown, "anyOf": choices}


class _Generator(GenerateJsonSchema):
    """Adds the other spellings of a key, which pydantic leaves out."""

    def model_schema(self, schema: core_schema.ModelSchema) -> dict[str, Any]:
        out = super().model_schema(schema)
        properties = out.get("properties", {})
        required = set(out.get("required", ()))
        for name, field in schema["cls"].model_fields.items():
            keys = spellings(name, field)
            body = next((properties[key] for key in keys if key in properties), None)
            for key in keys:
                if body is not None and key not in properties:
                    properties[key] = {**body, "deprecated": True}
            if len(keys) > 1 and required & set(keys):
                # Any of the spellings will do.
                required -= set(keys)
                out.setdefault("allOf", []).append({"anyOf": [{"required": [key]} for key in keys]})
        if required:
            out["required"] = sorted(required)
        else:
            out.pop("required", None)
        return out


def duration_text(seconds: float) -> str:
    """`1m30s`, `200ms` or `0`, of seconds."""
    if seconds == 0:
        return "0"
    if seconds != int(seconds):
        milliseconds = seconds * 1000
        return f"{milliseconds:g}ms"
    out, rest = "", int(seconds)
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        if rest >= size:
            out += f"{rest // size}{unit}"
            rest %= size
    return out
