"""Every scenario is a coroutine over a `Trial` that has not begun; its docstring begins with the line that `--help` shows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.faults.scenarios import backends, clients, clock, disk, grpc_answers, kill, kubernetes, load, rotation, stores
from tests.faults.trial import Trial

Scenario = Callable[[Trial], Awaitable[None]]

SCENARIOS: dict[str, Scenario] = {
    "kill": kill.kill,
    "reload": kill.reload,
    "down": backends.down,
    "long-down": backends.long_down,
    "slow": backends.slow,
    "half-open": backends.half_open,
    "reset": backends.reset,
    "statuses": backends.statuses,
    "grpc": grpc_answers.grpc,
    "poison": backends.poison,
    "disk-full": disk.full,
    "broken-disk": disk.broken,
    "read-only": disk.read_only,
    "damage": disk.damage,
    "rotation": rotation.rotation,
    "clock": clock.clock,
    "kubernetes": kubernetes.kubernetes,
    "stores": stores.stores,
    "load": load.load,
    "hostile": clients.hostile,
}
