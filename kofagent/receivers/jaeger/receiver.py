"""The receiver `jaeger`; see the package's docstring for what it promises."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from kofagent.component.offering import Offer
from kofagent.component.protocols import Context, Receiver
from kofagent.net.budget import ByteBudget
from kofagent.net.turning_away import Rejections
from kofagent.receivers.jaeger import thrift
from kofagent.receivers.jaeger.config import Config
from kofagent.receivers.jaeger.http import HttpEndpoint
from kofagent.receivers.jaeger.udp import UdpEndpoint
from kofagent.telemetry.signal import Signal

if TYPE_CHECKING:
    from kofagent.receivers.jaeger.grpc import GrpcEndpoint

TRANSPORTS = {
    "grpc": "grpc",
    "thrift_http": "collector_http",
    "thrift_compact": "udp_thrift_compact",
    "thrift_binary": "udp_thrift_binary",
}
"""The label `transport` of each protocol, as upstream has it."""


class JaegerReceiver(Receiver[Config]):
    """Up to four servers in front of the same pipelines."""

    signals: ClassVar = frozenset({Signal.TRACES})

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}
        self.ports: dict[str, int] = {}
        """Port by protocol, after `start`."""
        self.budget = ByteBudget(config.max_in_flight_size)
        """Bytes of requests and datagrams under way, of all protocols together."""
        self._endpoints: list[GrpcEndpoint | HttpEndpoint | UdpEndpoint] = []

    async def start(self) -> None:
        """Binds the sockets; StartError if a port is not free."""
        try:
            for name, block in self.config.protocols:
                if block is None:
                    continue
                endpoint = self._endpoint(name)
                await endpoint.start()
                self._endpoints.append(endpoint)
                self.ports[name] = endpoint.port
        except BaseException:
            await self.stop()
            raise

    def _endpoint(self, name: str) -> GrpcEndpoint | HttpEndpoint | UdpEndpoint:
        protocols, context, transport = self.config.protocols, self.context, TRANSPORTS[name]
        offer = Offer(context, self.outputs[Signal.TRACES], Signal.TRACES, transport)
        rejections = Rejections(context, transport)
        if name == "grpc" and protocols.grpc is not None:
            from kofagent.receivers.jaeger.grpc import GrpcEndpoint

            return GrpcEndpoint(protocols.grpc, context, offer, rejections, self.budget)
        if name == "thrift_http" and protocols.thrift_http is not None:
            return HttpEndpoint(protocols.thrift_http, context, offer, rejections, self.budget)
        compact = name == "thrift_compact"
        block = protocols.thrift_compact if compact else protocols.thrift_binary
        assert block is not None
        return UdpEndpoint(block, context, name, partial(thrift.datagram, compact=compact), offer, rejections, self.budget)

    async def stop(self) -> None:
        """Accepts nothing new and lets requests in progress finish."""
        endpoints, self._endpoints = self._endpoints, []
        for endpoint in endpoints:
            await endpoint.stop()
