"""Clients that mean harm, as a process of their own, so that what they cost is not taken for the agent's slowness.

python -m tests.faults.hostile PORT CONNECTIONS CANARIES        until it is killed; secrets are sent as `canaries.py` has them
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import sys
from typing import Any


async def attack(port: int, connections: int, canaries: dict[str, Any]) -> None:
    """All of it, on an OTLP/HTTP port of loopback, and on the guarded one."""
    tasks = [idle(port, n) for n in range(connections)]
    tasks += [work(port) for work in (dribble, announced) for _ in range(20)]
    tasks.append(strangers(canaries))
    await asyncio.gather(*tasks, *(bombs(port) for _ in range(2)))


async def idle(port: int, number: int) -> None:
    await asyncio.sleep(number / 200)
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.sleep(60)
        finally:
            writer.close()


async def dribble(port: int) -> None:
    """A head of a request, a byte at a time."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                for byte in b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 1000:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.3)
            finally:
                writer.close()
        await asyncio.sleep(0.5)


async def announced(port: int) -> None:
    """19 MiB are announced, some are sent."""
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                head = f"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\nContent-Length: {19 << 20}\r\n\r\n"
                writer.write(head.encode() + bytes(65536))
                await writer.drain()
                await asyncio.sleep(5)
            finally:
                writer.close()
        await asyncio.sleep(0.5)


async def strangers(canaries: dict[str, Any]) -> None:
    """Wrong tokens, and the right one with what is no data."""
    data, query = canaries["malformed-data"], canaries["in-a-query"]
    bodies = [f'{{"resourceSpans": [{{"a": "{data}"'.encode(), b"\x0a\x7f" + data.encode(), data.encode()]
    while True:
        for token in (canaries["wrong-token"], canaries["client-token"]):
            for body in bodies:
                for kind in ("application/json", "application/x-protobuf", f"text/{data}"):
                    with contextlib.suppress(OSError, TimeoutError):
                        reader, writer = await asyncio.open_connection("127.0.0.1", canaries["guarded"])
                        head = (
                            f"POST /v1/traces?token={query} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
                            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
                        )
                        writer.write(head.encode() + body)
                        async with asyncio.timeout(5):
                            await reader.read(200)
                        writer.close()
        await asyncio.sleep(0.5)


async def bombs(port: int) -> None:
    """64 MiB of zeros in a few KB of gzip, and 64 MiB as they are."""
    small = gzip.compress(bytes(64 << 20), 9)
    bodies = [(small, "Content-Encoding: gzip\r\n"), (bytes(64 << 20), "")]
    while True:
        for body, more in bodies:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    head = f"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\n{more}Content-Length: {len(body)}\r\n\r\n"
                    writer.write(head.encode() + body)
                    async with asyncio.timeout(5):
                        await reader.read(200)
                except TimeoutError:
                    pass
                finally:
                    writer.close()
            await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(attack(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])))
