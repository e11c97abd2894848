"""Which operator types exist: those that have a file in `types`. A file is imported only when something asks for its type."""

from __future__ import annotations

import builtins
import importlib
import pkgutil
from collections.abc import Iterator, Mapping

from kofagent.operators import types
from kofagent.operators.operator import AnyOperator


class Catalog(Mapping[str, type[AnyOperator]]):
    """Type -> class of the operator; KeyError for a type that has no file, ImportError for a file that names no class."""

    def __init__(self) -> None:
        self._names = sorted(module.name for module in pkgutil.iter_modules(types.__path__))

    def __getitem__(self, type: str) -> type[AnyOperator]:
        if type not in self._names:
            raise KeyError(type)
        module = importlib.import_module(f"{types.__name__}.{type}")
        if not hasattr(module, "OPERATOR"):
            raise ImportError(f"{module.__name__} does not say which class it is for; end it with: OPERATOR = TheClass")
        operator: builtins.type[AnyOperator] = module.OPERATOR
        return operator

    def __contains__(self, type: object) -> bool:
        return type in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


OPERATORS = Catalog()
