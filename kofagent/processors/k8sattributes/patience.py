"""`Patience`: how long telemetry waits for a pod that is not known. Times are of the event loop, in seconds."""

from __future__ import annotations

from kofagent.processors.k8sattributes.pods import Place

MAX_ASKED = 4096
SHORTEST_WAIT = 0.05
FORGET_IN_VAIN = 15.0
FORGET_ASKED = 600.0


class Patience:
    """Each place is waited for once, for `wait` seconds at most; consecutive fruitless waits halve the next one, so that log
    files of many deleted pods do not stall the others."""

    def __init__(self, wait: float) -> None:
        self._wait = wait
        self._asked: dict[Place, float] = {}
        self._in_vain = 0
        self._last_in_vain = 0.0

    def until(self, place: Place) -> float | None:
        """Until when this place is waited for, or was; None: it was not asked for yet."""
        return self._asked.get(place)

    def begin(self, place: Place, now: float) -> float:
        """Until when this place, not asked for yet, is waited for: not at all while too many are."""
        if len(self._asked) >= MAX_ASKED:
            self._asked = {p: t for p, t in self._asked.items() if t > now - FORGET_ASKED}
            if len(self._asked) >= MAX_ASKED:
                return now
        if now - self._last_in_vain > FORGET_IN_VAIN:
            self._in_vain = 0
        until = self._asked[place] = now + max(self._wait * 0.5**self._in_vain, min(self._wait, SHORTEST_WAIT))
        return until

    def found(self, place: Place) -> None:
        """The pod of this place is known now."""
        self._asked.pop(place, None)

    def renew(self) -> None:
        """The next wait is a full one."""
        self._in_vain = 0

    def waited(self, found: bool, now: float) -> None:
        """Notes how a wait ended."""
        self._in_vain = 0 if found else min(self._in_vain + 1, 20)
        self._last_in_vain = now
