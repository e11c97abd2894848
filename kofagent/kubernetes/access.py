"""Where the API server is and how the agent shows who it is: the pod's service account, a kubeconfig, or nothing."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Mapping

from kofagent.component.protocols import StartError
from kofagent.kubernetes.options import ApiOptions
from kofagent.net.proxy import environment_proxy
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
        except (ssl.SSLError, ValueError):
            raise StartError(f"{self._ca.path} is not a usable PEM file") from None
        except OSError as error:
            raise StartError(
                f"no service account in this pod: {getattr(error, 'filename', folder)} cannot be read; "
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
            with contextlib.suppress(ssl.SSLError, ValueError):  # half a file: what was trusted before still is
                self._trust(pem)
        return self._context

    def _trust(self, pem: bytes) -> None:
        self._ca_version = self._ca.version
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pem.decode("ascii", "ignore"))
        self._context = context

    def rejected(self) -> bool:
        """Whether the file holds another token than the one refused."""
        self._token.forget()
        try:
            return self._token.read().decode("ascii", "ignore").strip() != self._sent
        except (OSError, ValueError):
            return False


_default_kubeconfig: str | None = None
_default_context = ""


def set_default_kubeconfig(path: str | None, context: str = "") -> None:
    """What `--kubeconfig` and `--context` name: used by every component whose auth_type is serviceAccount or kubeConfig.

    An empty path is kubectl's own search: $KUBECONFIG, else ~/.kube/config. None undoes it.
    """
    global _default_kubeconfig, _default_context  # noqa: PLW0603 - one agent per process, one command line
    _default_kubeconfig = path
    _default_context = context


def default_kubeconfig() -> str | None:
    """The path that `set_default_kubeconfig` was given; None: none is to be used."""
    return _default_kubeconfig


def proxy_of(server: str) -> str | None:
    """The proxy that HTTPS_PROXY and NO_PROXY name for an API server; StartError when it is none that can be used."""
    try:
        return environment_proxy(server)
    except ValueError as error:
        raise StartError(str(error)) from None


def in_cluster() -> bool:
    """Whether this process runs in a pod that is told where its API server is."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def find(options: ApiOptions) -> Access:
    """The access that options ask for; StartError says what is missing and what to do."""
    kind = options.auth_type
    if kind == "tls":
        raise StartError(
            "auth_type tls has no options that name a certificate; use auth_type: kubeConfig with a kubeconfig that "
            "has client-certificate and client-key"
        )
    if kind == "kubeConfig" or (kind == "serviceAccount" and _default_kubeconfig is not None):
        from kofagent.kubernetes.kubeconfig import load

        return load(_default_kubeconfig or None, options.context or _default_context)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise StartError(
            "not in a Kubernetes cluster (KUBERNETES_SERVICE_HOST is not set); run with --kubeconfig ~/.kube/config, "
            "set auth_type: kubeConfig, or switch the component off (--values configs/no-cluster.yaml)"
        )
    if kind == "none":
        server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return Access(server, context=context, proxy=proxy_of(server))
    return ServiceAccount(SERVICE_ACCOUNT, host, port)
