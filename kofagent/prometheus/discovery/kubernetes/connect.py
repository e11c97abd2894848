"""Which API server a `kubernetes_sd_configs` entry talks to: the agent's own, that of a kubeconfig, or `api_server`."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Mapping

from pydantic import BaseModel
from yarl import URL

from kofagent.component.protocols import Host, StartError
from kofagent.kubernetes.access import Access
from kofagent.kubernetes.client import ApiClient, shared, shared_access
from kofagent.kubernetes.errors import Unreachable
from kofagent.kubernetes.options import ApiOptions
from kofagent.prometheus.credentials import Credentials, FetchError, proxy_for, tls_of
from kofagent.prometheus.discovery.config import KubernetesSdConfig


def connector(config: KubernetesSdConfig, host: Host, user_agent: str) -> Callable[[], ApiClient]:
    """A function that gives the client of an entry; equal entries share one. It raises StartError."""
    if config.kubeconfig_file:

        def from_file() -> Access:
            from kofagent.kubernetes import kubeconfig

            return kubeconfig.load(config.kubeconfig_file)

        return lambda: shared_access(host, ("kubeconfig_file", config.kubeconfig_file), from_file)
    if config.api_server:
        return lambda: shared_access(host, ("api_server", _fingerprint(config)), lambda: OwnAccess(config, user_agent))
    return lambda: shared(host, ApiOptions())


class OwnAccess(Access):
    """`api_server` with the client options of the entry."""

    def __init__(self, config: KubernetesSdConfig, user_agent: str) -> None:
        super().__init__(
            config.api_server,
            server_hostname=config.tls_config.server_name or None,
            proxy=proxy_for(config, URL(config.api_server)),
        )
        self._credentials = Credentials(config, user_agent)
        self._tls = tls_of(config.tls_config)

    async def headers(self) -> Mapping[str, str]:
        """The headers of basic_auth, authorization, oauth2 and http_headers, files read again."""
        try:
            return await self._credentials.headers()
        except FetchError as error:
            raise Unreachable(str(error)) from None

    async def tls(self) -> ssl.SSLContext | bool:
        """The context for `tls_config`, created again when its files change."""
        if not self.server.startswith("https"):
            return True
        try:
            return self._tls.context()
        except StartError as error:
            raise Unreachable(str(error)) from None

    async def close(self) -> None:
        """Closes the connection to the token server of oauth2."""
        await self._credentials.stop()


def _fingerprint(config: KubernetesSdConfig) -> str:
    """The same for entries with the same server and credentials."""
    left_out = {"role", "namespaces", "selectors", "attach_metadata"}
    text = repr([(name, _plain(getattr(config, name))) for name in type(config).model_fields if name not in left_out])
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return [(name, _plain(getattr(value, name))) for name in type(value).model_fields]
    if isinstance(value, dict):
        return sorted((key, repr(_plain(v))) for key, v in value.items())
    if isinstance(value, list):
        return [_plain(v) for v in value]
    reveal = getattr(value, "get_secret_value", None)
    return reveal() if reveal is not None else value
