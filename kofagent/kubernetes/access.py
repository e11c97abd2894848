"""Where the API server is and how the agent shows who it is: the pod's service account, a kubeconfig, or nothing."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Mapping

from kofagent.kubernetes.options import ApiOptions
from kofagent.net.watched import WatchedFile
from kofagent.pipeline.component import StartError

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet mounts token, CA and namespace."""


class Access:
    """How one API server is reached. Subclasses add what changes while the agent runs; this one sends no credentials."""

    def __init__(self, server: str, *, namespace: str = "default", server_hostname: str | None = None,
                 proxy: str | None = None, context: ssl.SSLContext | bool = True) -> None:
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


class ServiceAccount(Access):
    """The pod's own account: the projected token and the CA are read again when the kubelet replaces them."""

    def __init__(self, folder: str, host: str, port: str) -> None:
        super().__init__(f"https://{f'[{host}]' if ':' in host else host}:{port}")
        self._token = WatchedFile(os.path.join(folder, "token"))
        self._ca = WatchedFile(os.path.join(folder, "ca.crt"))
        self._ca_version = -1
        self._sent = ""
        try:
            self._token.read()
            self._trust(self._ca.read())
        except ssl.SSLError:
            raise StartError(f"{self._ca.path} is not a usable PEM file") from None
        except (OSError, ValueError) as error:
            raise StartError(f"no service account in this pod: {getattr(error, 'filename', folder)} cannot be read; "
                             "set automountServiceAccountToken: true for the pod, or auth_type: kubeConfig") from None
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
            with contextlib.suppress(ssl.SSLError):  # half a file: what was trusted before still is
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


def set_default_kubeconfig(path: str | None) -> None:
    """What `--kubeconfig` names: used by every component whose auth_type is serviceAccount or kubeConfig. None undoes it."""
    global _default_kubeconfig  # noqa: PLW0603 - one agent per process, one command line
    _default_kubeconfig = path


def default_kubeconfig() -> str | None:
    """What `set_default_kubeconfig` was given."""
    return _default_kubeconfig


def in_cluster() -> bool:
    """Whether this process runs in a pod that is told where its API server is."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def find(options: ApiOptions) -> Access:
    """The access that options ask for; StartError says what is missing and what to do."""
    kind = options.auth_type
    if kind == "tls":
        raise StartError("auth_type tls has no options that name a certificate; use auth_type: kubeConfig with a kubeconfig that "
                         "has client-certificate and client-key")
    if kind == "kubeConfig" or (kind == "serviceAccount" and _default_kubeconfig is not None):
        from kofagent.kubernetes.kubeconfig import load

        return load(_default_kubeconfig, options.context)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise StartError("not in a Kubernetes cluster (KUBERNETES_SERVICE_HOST is not set); run with --kubeconfig ~/.kube/config, "
                         "set auth_type: kubeConfig, or switch the component off (--values configs/no-cluster.yaml)")
    if kind == "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return Access(f"https://{f'[{host}]' if ':' in host else host}:{port}", context=context)
    return ServiceAccount(SERVICE_ACCOUNT, host, port)
