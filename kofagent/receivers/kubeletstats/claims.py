"""The persistent volumes behind claims, asked of the API server once per volume of a pod."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from kofagent.kubernetes.client import ApiClient
from kofagent.kubernetes.errors import ApiError
from kofagent.kubernetes.resources import PERSISTENTVOLUMECLAIMS, PERSISTENTVOLUMES
from kofagent.receivers.kubeletstats.pods import Pairs, claim_of, persistent_attributes

Key = tuple[str, str]
"""(uid of the pod, name of the volume)."""
AGAIN = 60.0
"""Seconds until a claim that could not be read is asked for again."""


class Claims:
    """What is known of volumes with claims. `attributes` has what was found, `problems` why something was not."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.attributes: dict[Key, Pairs] = {}
        self.problems: dict[Key, str] = {}
        self._ask_again: dict[Key, float] = {}

    async def learn(self, volumes: Mapping[Key, Mapping[str, Any]], namespaces: Mapping[str, str]) -> None:
        """Looks up the volumes that are not known yet, forgets the others. `namespaces` are those of pods by uid."""
        now = asyncio.get_running_loop().time()
        wanted: dict[Key, str] = {}
        for key, volume in volumes.items():
            claim = claim_of(volume)
            if claim is not None and key[0] in namespaces:
                wanted[key] = claim
        for known in (self.attributes, self.problems, self._ask_again):
            for key in [k for k in known if k not in wanted]:
                del known[key]
        await asyncio.gather(
            *(
                self._ask(key, namespaces[key[0]], claim, now)
                for key, claim in wanted.items()
                if key not in self.attributes and self._ask_again.get(key, 0) <= now
            )
        )

    async def _ask(self, key: Key, namespace: str, name: str, now: float) -> None:
        try:
            claim = await self._client.get_object(PERSISTENTVOLUMECLAIMS, name, namespace)
            volume = str((claim.get("spec") or {}).get("volumeName") or "")
            if not volume:
                raise ApiError(0, "Unbound", f"the claim {namespace}/{name} has no volume yet")
            found = await self._client.get_object(PERSISTENTVOLUMES, volume)
            self.attributes[key] = persistent_attributes(found.get("spec") or {})
            self.problems.pop(key, None)
        except (ApiError, AttributeError) as error:
            self.problems[key] = str(error) or "malformed"
            self._ask_again[key] = now + AGAIN
