"""Which entries are wanted: `units`, `identifiers`, `priority`, `dmesg` and `matches`, each of which an entry has to fulfil.

Every value of an entry is asked once which conditions it fulfils, a bit for each; what the values of an entry fulfil together
decides. Values are shared by many entries, so that mostly nothing but bits is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from kofagent.receivers.journald.units import is_glob, pattern, unit_name

PRIORITIES = {"emerg": 0, "alert": 1, "crit": 2, "err": 3, "warning": 4, "notice": 5, "info": 6, "debug": 7}
_COREDUMP = "fc2e22bc6ee647b6b90729ab34a250b1"
"""The MESSAGE_ID of systemd-coredump."""


class Matches:
    """The conditions, compiled. `clauses` are the options that are set: of each, one alternative has to be fulfilled, all of it."""

    def __init__(self) -> None:
        self.clauses: list[tuple[str, list[int]]] = []
        self._exact: dict[bytes, int] = {}
        self._patterns: dict[bytes, list[tuple[Callable[[str], object], int]]] = {}
        self._bits: dict[tuple[str, bool], int] = {}

    def add(self, option: str, alternatives: Iterable[Sequence[tuple[str, str]]], globs: bool = False) -> None:
        """One more option: each alternative is a list of FIELD and value. `globs`: values may be patterns."""
        masks = []
        for conditions in alternatives:
            mask = 0
            for name, value in conditions:
                mask |= self._bit(name, [value], f"{name}={value}", globs and is_glob(value))
            masks.append(mask)
        self.clauses.append((option, masks))

    def any_of(self, option: str, name: str, values: Sequence[str]) -> None:
        """One more option: the field has one of these values. They are one condition."""
        self.clauses.append((option, [self._bit(name, values, f"{name} is one of {', '.join(values)}", False)]))

    def _bit(self, name: str, values: Sequence[str], words: str, glob: bool) -> int:
        bit = self._bits.get((words, glob))
        if bit is None:
            bit = self._bits[words, glob] = 1 << len(self._bits)
            for value in values:
                data = f"{name}={value}".encode()
                if glob:
                    self._patterns.setdefault(name.encode(), []).append((pattern(value), bit))
                else:
                    self._exact[data] = self._exact.get(data, 0) | bit
        return bit

    def mask(self, data: bytes) -> int:
        """The conditions that the value `NAME=value` fulfils."""
        mask = self._exact.get(data, 0)
        if self._patterns:
            name, _, value = data.partition(b"=")
            for test, bit in self._patterns.get(name, ()):
                if test(value.decode("utf-8", "replace")):
                    mask |= bit
        return mask

    def accepts(self, mask: int) -> bool:
        """Whether an entry is wanted whose values fulfil these conditions together."""
        for _, alternatives in self.clauses:
            for alternative in alternatives:
                if mask & alternative == alternative:
                    break
            else:
                return False
        return True

    def explain(self) -> list[str]:
        """The conditions in words."""
        words = {bit: words for (words, _), bit in self._bits.items()}

        def said(mask: int) -> str:
            return " and ".join(word for bit, word in words.items() if mask & bit)

        return [f"{name}: {' or '.join(map(said, masks))}" for name, masks in self.clauses]


def compile_matches(
    units: Sequence[str], identifiers: Sequence[str], priority: str, dmesg: bool, matches: Sequence[Mapping[str, str]]
) -> Matches:
    """The conditions of these options; ValueError for a priority or a unit that is none."""
    out = Matches()
    if dmesg:
        out.add("dmesg", [[("_TRANSPORT", "kernel")]])
    wanted = priorities(priority)
    if len(wanted) < len(PRIORITIES):  # as journalctl: with all of them, entries without one as well
        out.any_of("priority", "PRIORITY", [str(n) for n in wanted])
    if units:
        out.add("units", [alternative for unit in units for alternative in _unit(unit_name(unit))], globs=True)
    if identifiers:
        out.add("identifiers", [[("SYSLOG_IDENTIFIER", identifier)] for identifier in identifiers])
    if matches:
        out.add("matches", [sorted(match.items()) for match in matches])
    return out


def priorities(text: str) -> range:
    """The priorities of `err` (and more urgent), `3`, or a range `warning..crit`; ValueError for anything else."""
    first, dots, last = text.partition("..")
    if dots:
        low, high = sorted((_priority(first), _priority(last)))
        return range(low, high + 1)
    return range(_priority(text) + 1)


def _priority(text: str) -> int:
    if text in PRIORITIES:
        return PRIORITIES[text]
    if len(text) == 1 and text in "01234567":
        return int(text)
    raise ValueError(f"{text!r} is not a priority; write one of {', '.join(PRIORITIES)}, 0 to 7, or a range as emerg..err")


def _unit(unit: str) -> list[list[tuple[str, str]]]:
    """What is about a unit: what it says, its core dumps, and what systemd and its daemons say about it."""
    out = [
        [("_SYSTEMD_UNIT", unit)],
        # of any user: the one of systemd-coredump has another number on each machine
        [("MESSAGE_ID", _COREDUMP), ("COREDUMP_UNIT", unit)],
        [("_PID", "1"), ("UNIT", unit)],
        [("_SYSTEMD_CGROUP", "/init.scope"), ("UNIT", unit)],  # what systemd forked
        [("_UID", "0"), ("OBJECT_SYSTEMD_UNIT", unit)],
    ]
    if unit.endswith(".slice"):
        out.append([("_SYSTEMD_SLICE", unit)])
    return out
