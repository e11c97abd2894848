"""An HTTP server that takes everything, as cheaply as it can: `python -m bench.sink PORT`. GET / tells requests and bytes."""

from __future__ import annotations

import asyncio
import sys


class Sink(asyncio.Protocol):
    """HTTP/1.1 with Content-Length or chunked bodies; every POST is answered with 200 and an empty body."""

    requests = 0
    received = 0

    def __init__(self) -> None:
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end]).lower()
            if b"transfer-encoding: chunked" in head:
                last = self.buffer.find(b"\r\n0\r\n\r\n", end)
                if last < 0:
                    return
                size, body = last + 7, last - end
            else:
                at = head.find(b"content-length:")
                body = int(head[at + 15 : head.find(b"\r\n", at) if head.find(b"\r\n", at) > 0 else None]) if at >= 0 else 0
                size = end + 4 + body
                if len(self.buffer) < size:
                    return
            if head.startswith(b"get"):
                text = f"{Sink.requests} {Sink.received}".encode()
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
            else:
                Sink.requests += 1
                Sink.received += body
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
            del self.buffer[:size]


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
