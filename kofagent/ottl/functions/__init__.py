"""The functions of the language: `CONVERTERS` give values, `EDITORS` change the item. A module registers those of its subject."""

from kofagent.ottl.functions import (  # noqa: F401 - they register themselves
    buckets,
    collections,
    conversions,
    editors,
    hashes,
    logs,
    metrics,
    network,
    parsing,
    spans,
    texts,
    times,
    xml,
)
from kofagent.ottl.functions.core import CONVERTERS, EDITORS

__all__ = ["CONVERTERS", "EDITORS"]
