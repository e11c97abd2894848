"""How a kubelet is reached: directly with a certificate or the pod's token, on its read-only port, or through the API server."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from kofagent.component.protocols import Kubeconfig, StartError
from kofagent.config.blocks import TlsClientBlock
from kofagent.kubernetes import access as accounts
from kofagent.kubernetes.access import Access
from kofagent.kubernetes.choose import find
from kofagent.kubernetes.client import CONNECT_TIMEOUT, ApiClient
from kofagent.kubernetes.errors import ApiError
from kofagent.kubernetes.options import ApiOptions
from kofagent.net.tls import client_context
from kofagent.net.watched_file import WatchedFile
from kofagent.receivers.kubeletstats.config import Config

LIMIT = 64 << 20
TIMEOUT = 30.0
_TLS_OPTIONS = ("ca_file", "ca_pem", "cert_file", "cert_pem", "key_file", "key_pem", "min_version", "max_version", "cipher_suites")


class KubeletError(Exception):
    """The kubelet gave no usable answer; the message says why, without secrets."""


class Kubelet:
    """One kubelet. `where` names it in messages."""

    def __init__(self, config: Config, kubeconfig: Kubeconfig | None) -> None:
        through = config.auth_type == "kubeConfig" or (config.auth_type == "serviceAccount" and kubeconfig is not None)
        self._timeout = config.timeout or TIMEOUT
        self._prefix = ""
        access: Access
        if through:
            node = _node_name(config)
            access = find(ApiOptions(auth_type="kubeConfig", context=config.context), kubeconfig)
            if config.insecure_skip_verify:
                access = _Unverified(access)
            self._prefix = f"/api/v1/nodes/{quote(node, safe='')}/proxy"
            self.where = f"the kubelet of {node}, through {access.server}"
        else:
            url = _url(config)
            if config.auth_type == "none":
                access = Access(url, context=_context(config, "") if url.startswith("https:") else True)
            elif config.auth_type == "serviceAccount":
                access = _TokenAccess(url, config)
            else:
                access = _FileAccess(url, config)
            self.where = f"the kubelet at {url}"
        self._client = ApiClient(access, connect_timeout=config.dialer.timeout or CONNECT_TIMEOUT)

    async def start(self) -> None:
        """Opens the pool of connections."""
        await self._client.start()

    async def stop(self) -> None:
        """Closes it."""
        await self._client.stop()

    async def get(self, path: str) -> bytes:
        """The body of an answer. KubeletError without an answer or if it is not 200."""
        try:
            answer = await self._client.request("GET", self._prefix + path, limit=LIMIT, timeout=self._timeout)
        except ApiError as error:
            hint = "; name the CA of the kubelet's certificate with ca_file, or set insecure_skip_verify: true"
            raise KubeletError(f"{self.where}: {error}{hint if 'TLS' in str(error) and not self._prefix else ''}") from None
        if answer.status != 200:
            raise KubeletError(f"{self.where} answered {answer.status} to {path}{_hint(answer.status)}")
        return answer.body


def _hint(status: int) -> str:
    if status == 401:
        return ": it rejects the credentials; auth_type serviceAccount needs the kubelet's webhook authentication"
    if status == 403:
        return ": give the agent's ClusterRole get on nodes/stats and nodes/proxy"
    return ""


def _url(config: Config) -> str:
    endpoint = config.endpoint.strip()
    plain = config.auth_type == "none"
    own = os.environ.get("K8S_NODE_NAME") or socket.gethostname()
    if not endpoint:
        endpoint = f"{own}:{10255 if plain else 10250}"
    if not endpoint.startswith(("http://", "https://")):
        endpoint = f"{'http' if plain else 'https'}://{endpoint}"
    parts = urlsplit(endpoint)
    return (endpoint if parts.hostname else f"{parts.scheme}://{own}:{parts.port}").rstrip("/")


def _node_name(config: Config) -> str:
    """Through the proxy the endpoint is the node's name; of a host:port or URL the host is taken."""
    endpoint = config.endpoint.strip()
    if "://" in endpoint:
        endpoint = urlsplit(endpoint).hostname or ""
    elif endpoint.count(":") == 1:
        endpoint = endpoint.split(":", 1)[0]
    name = endpoint or config.node or os.environ.get("K8S_NODE_NAME", "")
    if not name:
        raise StartError("the API server's proxy needs the name of the node; write endpoint: <name of the node>")
    return name


def _context(config: Config, default_ca: str) -> ssl.SSLContext:
    """Trusts the system's CAs in addition to `ca_file` (or `default_ca`), as upstream."""
    options = {name: getattr(config, name) for name in _TLS_OPTIONS}
    if not options["ca_file"] and not options["ca_pem"]:
        options["ca_file"] = default_ca
    return client_context(
        TlsClientBlock(**options, insecure_skip_verify=config.insecure_skip_verify, include_system_ca_certs_pool=True)
    )


class _FileAccess(Access):
    """TLS from files that are read again when one of them changes."""

    def __init__(self, url: str, config: Config, default_ca: str = "") -> None:
        self._config = config
        self._default_ca = default_ca
        paths = (config.ca_file or ("" if config.ca_pem else default_ca), config.cert_file, config.key_file)
        self._files = [WatchedFile(path) for path in paths if path]
        super().__init__(url, context=_context(config, default_ca))
        self._versions = self._read()

    def _read(self) -> list[int]:
        for file in self._files:
            file.read()
        return [file.version for file in self._files]

    async def tls(self) -> ssl.SSLContext | bool:
        """The context for the current files; a pair of which only one half is replaced changes nothing yet."""
        versions = self._read()
        if versions != self._versions:
            try:
                self._context = _context(self._config, self._default_ca)
                self._versions = versions
            except StartError:
                pass
        return self._context


class _TokenAccess(_FileAccess):
    def __init__(self, url: str, config: Config) -> None:
        folder = accounts.SERVICE_ACCOUNT
        self._token = WatchedFile(os.path.join(folder, "token"))
        self._sent = ""
        ca = os.path.join(folder, "ca.crt")
        try:
            self._token.read()
        except (OSError, ValueError):
            raise StartError(
                f"no service account in this pod: {self._token.path} cannot be read; set "
                "automountServiceAccountToken: true for the pod, or on a laptop run with "
                "--kubeconfig ~/.kube/config"
            ) from None
        super().__init__(url, config, ca)

    async def headers(self) -> Mapping[str, str]:
        """The token as it is in the file now."""
        self._sent = self._token.read().decode("ascii", "ignore").strip()
        return {"Authorization": f"Bearer {self._sent}"}

    def rejected(self) -> bool:
        """Whether the file has a newer token than the refused one."""
        self._token.forget()
        return self._token.read().decode("ascii", "ignore").strip() != self._sent


class _Unverified(Access):
    """The given access, without verification of the server's certificate."""

    def __init__(self, inner: Access) -> None:
        super().__init__(inner.server, namespace=inner.namespace, server_hostname=inner.server_hostname, proxy=inner.proxy)
        self._inner = inner

    async def headers(self) -> Mapping[str, str]:
        return await self._inner.headers()

    async def tls(self) -> ssl.SSLContext | bool:
        context = await self._inner.tls()
        if isinstance(context, ssl.SSLContext):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        return False

    def rejected(self) -> bool:
        return self._inner.rejected()
