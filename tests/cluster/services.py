"""Services of the real node: every ClusterIP:port (TCP) leads to a ready endpoint, and cluster names resolve. One small program in
place of kube-proxy and CoreDNS:

    python -m tests.cluster.services <kubeconfig>

It listens on the addresses of the service range, which the node made local to this machine (host.add_local_range), so pods on the
bridge, pods in the host's network and programs of this machine all reach them. Services are read each second.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
import urllib.parse
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from tests.cluster.api import Api
from tests.cluster.control_plane import API_SERVICE, NODE_ADDRESS
from tests.cluster.node import DNS_SERVICE

DOMAIN = "cluster.local"
TTL = 1
_A, _ANY, _IN = 1, 255, 1

Backend = tuple[str, int]


class Table:
    """What the proxy and the name server know: targets of each address, addresses of each name."""

    def __init__(self, api_port: int) -> None:
        self._own: dict[Backend, list[Backend]] = {
            (API_SERVICE, 443): [("127.0.0.1", api_port)],
            (NODE_ADDRESS, api_port): [("127.0.0.1", api_port)],
        }
        self.targets: dict[Backend, list[Backend]] = dict(self._own)
        self.names: dict[str, list[str]] = {f"kubernetes.default.svc.{DOMAIN}": [API_SERVICE]}

    def update(self, services: Iterable[dict[str, Any]], slices: Iterable[dict[str, Any]]) -> None:
        """Takes the Services and EndpointSlices of the cluster."""
        by_service: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for piece in slices:
            meta = piece["metadata"]
            service = meta.get("labels", {}).get("kubernetes.io/service-name")
            if service and piece["addressType"] == "IPv4":
                by_service.setdefault((meta["namespace"], service), []).append(piece)
        targets: dict[Backend, list[Backend]] = {}
        names: dict[str, list[str]] = {}
        for service in services:
            meta, spec = service["metadata"], service["spec"]
            pieces = by_service.get((meta["namespace"], meta["name"]), [])
            name, address = f"{meta['name']}.{meta['namespace']}.svc.{DOMAIN}", spec.get("clusterIP")
            if address in (None, "", "None"):
                ready = [endpoint for piece in pieces for endpoint in piece.get("endpoints") or [] if _ready(endpoint)]
                names[name] = [endpoint["addresses"][0] for endpoint in ready]
                names |= {f"{endpoint['hostname']}.{name}": endpoint["addresses"] for endpoint in ready if endpoint.get("hostname")}
                continue
            names[name] = [address]
            for port in spec.get("ports", []):
                if port.get("protocol", "TCP") == "TCP":
                    targets[(address, port["port"])] = [
                        (endpoint["addresses"][0], found["port"])
                        for piece in pieces
                        for found in piece.get("ports") or []
                        if (found.get("name") or "") == port.get("name", "")
                        for endpoint in piece.get("endpoints") or []
                        if _ready(endpoint)
                    ]
        self.targets, self.names = targets | self._own, names


def _ready(endpoint: dict[str, Any]) -> bool:
    return bool(endpoint.get("conditions", {}).get("ready", True))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, RuntimeError):
        writer.close()


class Proxy:
    """One listener per address in the table."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._servers: dict[Backend, asyncio.Server] = {}

    async def update(self) -> None:
        """Opens and closes listeners as the table says."""
        for address in self._servers.keys() - self._table.targets.keys():
            self._servers.pop(address).close()
        for address in self._table.targets.keys() - self._servers.keys():
            try:
                self._servers[address] = await asyncio.start_server(partial(self._serve, address), *address)
            except OSError as error:
                print(f"cannot listen on {address[0]}:{address[1]}: {error}", flush=True)

    async def _serve(self, address: Backend, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        candidates = list(self._table.targets.get(address, ()))
        random.shuffle(candidates)
        try:
            for target in candidates:
                try:
                    async with asyncio.timeout(3):
                        there, back = await asyncio.open_connection(*target)
                except (OSError, TimeoutError):
                    continue
                await asyncio.gather(_copy(reader, back), _copy(there, writer))
                back.close()
                break
        finally:
            writer.close()  # no endpoint: the caller sees a closed connection


class Names(asyncio.DatagramProtocol):
    """A name server for the cluster's domain; every other name does not exist."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the socket to answer on."""
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answers a query; what is no query is ignored."""
        try:
            self._transport.sendto(answer(data, self._table.names), addr)
        except (IndexError, struct.error, UnicodeDecodeError):
            pass


def answer(query: bytes, names: dict[str, list[str]]) -> bytes:
    """The DNS answer (RFC 1035) to a query with one question."""
    number, flags, questions = struct.unpack("!HHH", query[:6])
    if questions != 1:
        return struct.pack("!HHHHHH", number, 0x8481, 0, 0, 0, 0)
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    kind, _ = struct.unpack("!HH", query[at + 1 : at + 5])
    found = names.get(".".join(labels))
    addresses = (found or []) if kind in (_A, _ANY) else []
    header = struct.pack("!HHHHHH", number, 0x8480 | flags & 0x0100 | (0 if found is not None else 3), 1, len(addresses), 0, 0)
    records = b"".join(struct.pack("!HHHIH", 0xC00C, _A, _IN, TTL, 4) + socket.inet_aton(address) for address in addresses)
    return header + query[12 : at + 5] + records


async def serve(kubeconfig: Path) -> None:
    """Runs until it is killed; an API server that does not answer leaves the last known services in place."""
    api = Api(kubeconfig)
    table = Table(urllib.parse.urlsplit(api.server).port or 443)
    proxy = Proxy(table)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Names(table), local_addr=(DNS_SERVICE, 53))
    while True:
        await proxy.update()
        try:
            services = await asyncio.to_thread(api.get, "/api/v1/services?resourceVersion=0")
            slices = await asyncio.to_thread(api.get, "/apis/discovery.k8s.io/v1/endpointslices?resourceVersion=0")
            table.update(services["items"], slices["items"])
        except Exception as error:
            print(f"services not read: {error}", flush=True)
        await proxy.update()
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
