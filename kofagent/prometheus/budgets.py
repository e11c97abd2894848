"""How many series the targets of one Kubernetes namespace may have together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from weakref import WeakValueDictionary

MOST_NAMESPACES = 1000
"""Namespaces that are counted by name; the targets of all others share one budget."""
OTHERS = "(others)"


class Budget:
    """The series of one namespace."""

    __slots__ = ("__weakref__", "limit", "namespace", "used")

    def __init__(self, namespace: str, limit: int) -> None:
        self.namespace = namespace
        self.limit = limit
        self.used = 0


class Share:
    """What one target has of its namespace's budget."""

    __slots__ = ("_budget", "_dropped", "held")

    def __init__(self, budget: Budget, dropped: Callable[[str, int], None]) -> None:
        self._budget = budget
        self._dropped = dropped
        self.held = 0
        """Series of the target."""

    @property
    def room(self) -> int:
        """Series that the namespace may still have."""
        return max(0, self._budget.limit - self._budget.used)

    def take(self) -> bool:
        """Before the target has a series more; False: the budget is used up."""
        if self._budget.used >= self._budget.limit:
            return False
        self._budget.used += 1
        self.held += 1
        return True

    def settle(self, held: int) -> None:
        """The target has so many series now."""
        self._budget.used += held - self.held
        self.held = held

    def dropped(self, samples: int) -> None:
        """Counts samples of series beyond the budget."""
        self._dropped(self._budget.namespace, samples)


class Budgets:
    """The budgets of all namespaces; `dropped(namespace, samples)` counts what goes beyond one."""

    def __init__(self, per_namespace: int, dropped: Callable[[str, int], None]) -> None:
        """`per_namespace`: series; 0: no limit."""
        self._limit = per_namespace
        self._dropped = dropped
        self._namespaces: WeakValueDictionary[str, Budget] = WeakValueDictionary()  # as long as a target has a share

    def share(self, labels: Mapping[str, str], discovered: Mapping[str, str]) -> Share | None:
        """That of a target with these labels; None where it is in no namespace, or there is no limit."""
        namespace = discovered.get("__meta_kubernetes_namespace") or labels.get("namespace", "")
        if not self._limit or not namespace:
            return None
        budget = self._namespaces.get(namespace)
        if budget is None:
            if len(self._namespaces) >= MOST_NAMESPACES:
                namespace = OTHERS
            budget = self._namespaces.setdefault(namespace, Budget(namespace, self._limit))
        return Share(budget, self._dropped)

    def used(self) -> dict[str, int]:
        """Series by namespace."""
        return {name: budget.used for name, budget in self._namespaces.items()}
