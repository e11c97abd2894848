"""How an API server is reached and how the agent authenticates: here with the pod's service account, or not at all."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Mapping
from typing import Any

from kofagent.component.protocols import StartError
from kofagent.config.base import Secret
from kofagent.config.blocks import TlsClientBlock
from kofagent.net.proxy import environment_proxy
from kofagent.net.tls import client_context
from kofagent.net.watched_file import WatchedFile

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet mounts token, CA and namespace."""


class Access:
    """How one API server is reached. Subclasses add what changes while the agent runs; this one sends no credentials."""

    def __init__(
        self,
        server: str,
        *,
        namespace: str = "default",
        server_hostname: str | None = None,
        proxy: str | None = None,
        context: ssl.SSLContext | bool = True,
    ) -> None:
        self.server = server.rstrip("/")
        self.namespace = namespace
        self.server_hostname = server_hostname
        self.proxy = proxy
        self._context = context

    async def headers(self) -> Mapping[str, str]:
        """Headers of one request: Authorization and the like."""
        return {}

    async def tls(self) -> ssl.SSLContext | bool:
        """The TLS context of a new connection."""
        return self._context

    def rejected(self) -> bool:
        """Called after a 401: forgets what was remembered; True when asking again can help."""
        return False

    async def close(self) -> None:
        """Closes what was opened to get credentials; they can be asked for again."""


class ServiceAccount(Access):
    """The pod's own account: the projected token and the CA are read again when the kubelet replaces them."""

    def __init__(self, folder: str, host: str, port: str) -> None:
        server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        super().__init__(server, proxy=proxy_of(server))
        self._token = WatchedFile(os.path.join(folder, "token"))
        self._ca = WatchedFile(os.path.join(folder, "ca.crt"))
        self._ca_version = -1
        self._sent = ""
        try:
            self._token.read()
            self._trust(self._ca.read())
        except (OSError, ValueError) as error:
            raise StartError(
                f"no service account in this pod: {getattr(error, 'filename', None) or folder} cannot be read; "
                "set automountServiceAccountToken: true for the pod, or auth_type: kubeConfig"
            ) from None
        try:
            with open(os.path.join(folder, "namespace"), encoding="utf-8") as file:
                self.namespace = file.read().strip() or "default"
        except OSError:
            pass

    async def headers(self) -> Mapping[str, str]:
        """The bearer token as it is in the file now."""
        self._sent = self._token.read().decode("ascii", "ignore").strip()
        return {"Authorization": f"Bearer {self._sent}"}

    async def tls(self) -> ssl.SSLContext | bool:
        """Trusts the CA as it is in the file now."""
        pem = self._ca.read()
        if self._ca.version != self._ca_version:
            with contextlib.suppress(StartError):  # half a file: what was trusted before still is
                self._trust(pem)
        return self._context

    def _trust(self, pem: bytes) -> None:
        self._ca_version = self._ca.version
        try:
            self._context = trusting(pem)
        except StartError:
            raise StartError(f"{self._ca.path} is not a usable PEM file") from None

    def rejected(self) -> bool:
        """Whether the file holds another token than the one refused."""
        self._token.forget()
        try:
            return self._token.read().decode("ascii", "ignore").strip() != self._sent
        except (OSError, ValueError):
            return False


def trusting(ca: bytes, **options: Any) -> ssl.SSLContext:
    """A context that trusts these CAs (PEM) and no others; `options` are more of a `tls` block. StartError."""
    if not ca.strip():
        raise StartError("there is no certificate in it")
    return client_context(TlsClientBlock(ca_pem=Secret(ca.decode("ascii", "ignore")), **options))


def proxy_of(server: str) -> str | None:
    """The proxy that HTTPS_PROXY and NO_PROXY name for an API server; StartError if it cannot be used."""
    try:
        return environment_proxy(server)
    except ValueError as error:
        raise StartError(str(error)) from None
