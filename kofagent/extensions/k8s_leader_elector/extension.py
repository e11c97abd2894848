"""The extension `k8s_leader_elector`."""

from __future__ import annotations

from kofagent.component.protocols import Context, Extension
from kofagent.extensions.k8s_leader_elector.candidate import Candidate, candidate
from kofagent.extensions.k8s_leader_elector.config import Config


class LeaderElectorExtension(Extension[Config]):
    """A member of the candidate for its Lease; see the package."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._candidate: Candidate = candidate(context.host, config)
        self._runs = False

    @property
    def identity(self) -> str:
        """Who this is in the Lease."""
        return self._candidate.identity

    def is_leader(self) -> bool:
        """Whether this replica leads now."""
        return self._runs and self._candidate.leads

    async def changed(self, leads: bool) -> None:
        """Returns when `is_leader` does not say `leads`."""
        while self.is_leader() == leads:
            await self._candidate.turned.wait()

    async def start(self) -> None:
        """Begins to compete; it does not wait for the outcome."""
        self._candidate = candidate(self.context.host, self.config)
        await self._candidate.join(self.context)
        self._runs = True

    async def stop(self) -> None:
        """Leads no longer; the Lease is given back, unless another collector of the process has it as well."""
        self._runs = False
        await self._candidate.leave(self.context)
