"""Targets to scrape: `python -m bench.pages PORT SERIES`. Every path is a target of its own; values change with each scrape."""

from __future__ import annotations

import asyncio
import sys


class Pages(asyncio.Protocol):
    """Serves node-exporter-like pages; GET /count tells how many were served."""

    served = 0
    bodies: list[bytes] = []

    def __init__(self) -> None:
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            if self.buffer.startswith(b"GET /count"):
                body = str(Pages.served).encode()
            else:
                Pages.served += 1
                body = Pages.bodies[Pages.served % len(Pages.bodies)]
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"
            self.transport.write(head % len(body) + body)
            del self.buffer[: end + 4]


def page(series: int, turn: int) -> bytes:
    """A page of about `series` samples in 40 families, as node-exporter's."""
    out = []
    families = 40
    for f in range(families):
        out.append(f"# HELP node_metric_{f}_total What metric {f} counts on this node.\n# TYPE node_metric_{f}_total counter\n")
        for i in range(series // families):
            out.append(f'node_metric_{f}_total{{cpu="{i}",device="eth{i % 7}",mode="user"}} {1000.5 + i * 3 + turn * (f + 1)}\n')
    return "".join(out).encode()


async def main(port: int, series: int) -> None:
    Pages.bodies = [page(series, turn) for turn in range(4)]
    server = await asyncio.get_running_loop().create_server(Pages, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
