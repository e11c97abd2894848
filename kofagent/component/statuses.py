"""`Statuses`: the errors of several parts of one component as its one status."""

from __future__ import annotations

from collections.abc import Callable

from kofagent.component.protocols import Context


class Statuses:
    """Each part reports for itself; the component's status has every error once, and is well when no part has one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._errors: dict[str, str] = {}

    def of(self, name: str) -> Callable[[str | None], None]:
        """The function that reports for the part `name`: an error sentence, or None for well."""

        def report(error: str | None) -> None:
            self.set(name, error)

        return report

    def set(self, name: str, error: str | None) -> str | None:
        """Sets the status of the part `name`; returns the error it had before."""
        before = self._errors.pop(name, None)
        if error is not None:
            self._errors[name] = error
        if error != before:
            self._context.report("; ".join(dict.fromkeys(self._errors.values())) or None)
        return before
