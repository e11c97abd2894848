"""What can go wrong: in the text (`OttlError`) and with the data (`EvaluationError`)."""

from __future__ import annotations

from collections.abc import Iterable

from kofagent.config.errors import Path, Problem, Spot, suggest


class OttlError(ValueError):
    """The text is not a valid expression; the message has the column (from 1) and, where there is one, a suggestion."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"column {column}: {message}")
        self.message = message
        self.column = column

    def problem(self, path: Path, text: str) -> Problem:
        """The same as a problem of the text at a path in a configuration."""
        return Problem(path, self.message, spot=Spot(text, self.column - 1))


class EvaluationError(Exception):
    """The expression does not fit this item, as adding a number to a string. `error_mode` says what happens then.

    The message goes to the log and has no data of the item in it; literals can be read in the statement beside it.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or the empty string."""
    hint = suggest(word, known, limit=0)
    return f"; {hint}" if hint else ""
