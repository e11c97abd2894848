"""The receiver `otlp`; see the package's docstring for what it promises."""

from __future__ import annotations

from typing import Any

from kofagent.component.protocols import Context, Receiver
from kofagent.net.server import Room
from kofagent.receivers.otlp.config import Config, Protocols
from kofagent.receivers.otlp.http import HttpDoor
from kofagent.receivers.otlp.intake import Intake


class OtlpReceiver(Receiver[Config]):
    """One or two servers in front of the same pipelines."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self.outputs = {}
        self.ports: dict[str, int] = {}
        """Port by protocol, after `start`."""
        self._doors: list[Any] = []

    async def start(self) -> None:
        """Binds the sockets; StartError that says which is not free."""
        protocols: Protocols = self.config.protocols
        room = Room(self.config.max_in_flight_size)
        try:
            if protocols.grpc is not None:
                from kofagent.receivers.otlp.grpc import GrpcDoor

                grpc_door = GrpcDoor(protocols.grpc, self.context, Intake(self.context, self.outputs, room, "grpc"))
                await grpc_door.start()
                self._doors.append(grpc_door)
                self.ports["grpc"] = grpc_door.port
            if protocols.http is not None:
                paths = {
                    "traces": protocols.http.traces_url_path,
                    "metrics": protocols.http.metrics_url_path,
                    "logs": protocols.http.logs_url_path,
                }
                http_door = HttpDoor(protocols.http, self.context, Intake(self.context, self.outputs, room, "http"), paths)
                await http_door.start()
                self._doors.append(http_door)
                self.ports["http"] = http_door.port
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Takes nothing new, lets requests under way end."""
        doors, self._doors = self._doors, []
        for door in doors:
            await door.stop()
