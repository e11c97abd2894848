"""A Lease of coordination.k8s.io, as client-go's leader election uses it: who holds it, renewed by whoever does."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from typing import Any

from kofagent.kubernetes import errors
from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import NotFound
from kofagent.kubernetes.resources import LEASES

CONFLICT = 409
"""Somebody else was faster: the Lease has changed, or was created, since it was read."""


class Lease:
    """One Lease, and what was last seen of it. ApiError when the API server cannot be asked."""

    def __init__(self, client: ApiClient, namespace: str, name: str, identity: str, duration: float) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._seen: Any = None
        self._seen_at = 0.0

    async def hold(self) -> bool:
        """Takes the Lease where it is free or has run out, renews it where it is ours; whether it is ours now."""
        try:
            lease = await self._client.get_object(LEASES, self._name, self._namespace)
        except NotFound:
            return await self._write("POST", self._new())
        spec = lease.get("spec") if isinstance(lease.get("spec"), dict) else {}
        # clocks of machines differ: what counts is for how long this one saw no change
        if spec != self._seen:
            self._seen, self._seen_at = spec, time.monotonic()
        holder = spec.get("holderIdentity")
        if holder not in (None, "", self._identity) and time.monotonic() - self._seen_at < self._lasts(spec):
            return False
        now = _now()
        ours = holder == self._identity
        lease["spec"] = {
            **spec,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": math.ceil(self._duration),
            "acquireTime": spec.get("acquireTime") if ours else now,
            "renewTime": now,
            "leaseTransitions": _number(spec.get("leaseTransitions")) + (not ours),
        }
        return await self._write("PUT", lease)

    async def give_back(self) -> None:
        """Lets go of the Lease where it is ours, so that others need not wait until it has run out."""
        lease = await self._client.get_object(LEASES, self._name, self._namespace)
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") == self._identity:
            lease["spec"] = {**spec, "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
            await self._write("PUT", lease)

    def _lasts(self, spec: dict[str, Any]) -> float:
        """Seconds for which its holder has it; what the Lease says may come from a replica with other options."""
        return float(_number(spec.get("leaseDurationSeconds")) or self._duration)

    def _new(self) -> dict[str, Any]:
        now = _now()
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": math.ceil(self._duration),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        }

    async def _write(self, method: str, lease: dict[str, Any]) -> bool:
        path = LEASES.path(self._namespace, self._name if method == "PUT" else "")
        answer = await self._client.request(method, path, body=lease)
        if answer.status == CONFLICT:
            return False
        if not 200 <= answer.status < 300:
            verb = "update" if method == "PUT" else "create"
            raise errors.from_status(answer.status, answer.body[:65536], verb, str(LEASES), LEASES, self._namespace)
        self._seen, self._seen_at = lease["spec"], time.monotonic()
        return True


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
