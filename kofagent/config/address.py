"""`host:port` endpoints."""

from __future__ import annotations


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[::1]:4317` or `:4317` (host empty: all interfaces). ValueError with a sentence."""
    if "@" in endpoint or "?" in endpoint:
        raise ValueError("the endpoint is not host:port; write for example localhost:4317, without a login and a query")
    host, colon, port = endpoint.rpartition(":")
    if not colon or "/" in endpoint:
        raise ValueError(f"{endpoint!r} is not host:port; write for example localhost:4317")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{endpoint!r}: put an IPv6 address in brackets, as in [::1]:4317")
    if not port:
        raise ValueError(f"{endpoint!r} has no port after the colon; write for example localhost:4317")
    if not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise ValueError(f"{endpoint!r}: {port!r} is not a port number")
    return host, int(port)


def join_endpoint(host: str, port: int) -> str:
    """The inverse of `split_endpoint`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_plain_grpc(endpoint: str, insecure: bool) -> bool:
    """True for a gRPC client without TLS: with http:// always, with https:// never, else as `tls.insecure` says."""
    scheme = endpoint.partition("://")[0].lower()
    return scheme == "http" or (scheme != "https" and insecure)
