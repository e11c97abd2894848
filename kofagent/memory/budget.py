"""A number of bytes that data held in memory may take, shared by all who hold some."""

from __future__ import annotations

from kofagent.memory.account import ACCOUNT


class Budget:
    """`reserve` before holding data, `release` afterwards. Shown in the account under `name`."""

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self.limit = limit
        self.used = 0
        ACCOUNT.join_budget(self)

    def reserve(self, size: int) -> bool:
        """Takes `size` bytes; False when there is no room. One reservation larger than the whole budget may pass alone."""
        if self.used and self.used + size > self.limit:
            return False
        self.used += size
        return True

    def release(self, size: int) -> None:
        """Gives back what `reserve` took."""
        self.used -= size
