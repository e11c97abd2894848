"""The receiver `otlp`; see the package's docstring for what it promises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kofagent.component.protocols import Context, Receiver
from kofagent.net.budget import ByteBudget
from kofagent.receivers.otlp.config import Config, Protocols
from kofagent.receivers.otlp.http import HttpEndpoint
from kofagent.receivers.otlp.intake import Intake

if TYPE_CHECKING:  # grpc is imported when a configuration enables it
    from kofagent.receivers.otlp.grpc import GrpcEndpoint


class OtlpReceiver(Receiver[Config]):
    """One or two servers in front of the same pipelines."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}
        self.ports: dict[str, int] = {}
        """Port by protocol, after `start`."""
        self.budget = ByteBudget(config.max_in_flight_size)
        """Bytes of requests under way, of both protocols together."""
        self._endpoints: list[GrpcEndpoint | HttpEndpoint] = []

    async def start(self) -> None:
        """Binds the sockets; StartError if a port is not free."""
        protocols: Protocols = self.config.protocols
        try:
            if protocols.grpc is not None:
                from kofagent.receivers.otlp.grpc import GrpcEndpoint

                grpc = GrpcEndpoint(protocols.grpc, self.context, Intake(self.context, self.outputs, self.budget, "grpc"))
                await grpc.start()
                self._endpoints.append(grpc)
                self.ports["grpc"] = grpc.port
            if protocols.http is not None:
                paths = {
                    "traces": protocols.http.traces_url_path,
                    "metrics": protocols.http.metrics_url_path,
                    "logs": protocols.http.logs_url_path,
                }
                http = HttpEndpoint(protocols.http, self.context, Intake(self.context, self.outputs, self.budget, "http"), paths)
                await http.start()
                self._endpoints.append(http)
                self.ports["http"] = http.port
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Accepts nothing new and lets requests in progress finish."""
        endpoints, self._endpoints = self._endpoints, []
        for endpoint in endpoints:
            await endpoint.stop()
