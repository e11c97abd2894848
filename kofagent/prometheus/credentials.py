"""Credentials and routes of Prometheus' client options: headers, OAuth 2.0 tokens, TLS, proxies.

Files are read for every request, so a replaced secret is used immediately. Every failure is a `FetchError` without secrets in it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from yarl import URL

from kofagent.config.base import Secret
from kofagent.config.blocks import TlsClientBlock, TlsVersion
from kofagent.net.oauth2 import JWT_BEARER, Assertion, Grant, TokenError, Tokens
from kofagent.net.proxy import environment_proxy, is_direct
from kofagent.net.tls import ClientTls
from kofagent.net.transport import Route
from kofagent.prometheus.client_config import Authorization, BasicAuth, HttpClientOptions, OAuth2, ProxyOptions, TlsConfig

_VERSIONS: dict[str, TlsVersion] = {"": "", "TLS10": "1.0", "TLS11": "1.1", "TLS12": "1.2", "TLS13": "1.3"}


class FetchError(Exception):
    """A request that brought nothing; the message is a sentence without secrets."""


class Credentials:
    """The headers that authenticate the requests of one client."""

    def __init__(self, options: HttpClientOptions, user_agent: str) -> None:
        self._options = options
        self._oauth = token_source(options.oauth2, user_agent) if options.oauth2 is not None else None

    async def stop(self) -> None:
        """Closes the connection to the token server."""
        if self._oauth is not None:
            await self._oauth.stop()

    async def headers(self) -> dict[str, str]:
        """The headers as they are now. FetchError names a file that cannot be read."""
        options = self._options
        out: dict[str, str] = {}
        for name, header in options.http_headers.items():
            secrets = [secret.get_secret_value() for secret in header.secrets]
            files = [read_secret(path, f"http_headers {name}") for path in header.files]
            out[name] = ", ".join([*header.values, *secrets, *files])
        if options.basic_auth is not None:
            out["Authorization"] = _basic(options.basic_auth)
        elif options.authorization is not None:
            out["Authorization"] = _authorization(options.authorization)
        elif self._oauth is not None:
            try:
                out["Authorization"] = await self._oauth.header()
            except TokenError as error:
                raise FetchError(f"oauth2: {error}") from None
        return out


def _basic(options: BasicAuth) -> str:
    user = read_secret(options.username_file, "username_file") if options.username_file else options.username
    file = options.password_file
    password = read_secret(file, "password_file") if file else options.password.get_secret_value()
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _authorization(options: Authorization) -> str:
    file = options.credentials_file
    credentials = read_secret(file, "credentials_file") if file else options.credentials.get_secret_value()
    return f"{options.type} {credentials}".strip()


def token_source(options: OAuth2, user_agent: str) -> Tokens:
    """The access tokens of `oauth2`. A time-out is that of the request which waits for the token."""
    file, key = options.client_secret_file, options.client_certificate_key_file
    parameters = [*options.endpoint_params.items(), *([("audience", options.audience)] if options.audience else [])]
    signed = None
    if options.grant_type == JWT_BEARER:
        signed = Assertion(
            lambda: read_secret(key, "client_certificate_key_file") if key else options.client_certificate_key.get_secret_value(),
            options.client_certificate_key_id,
            options.signature_algorithm or "RS256",
            options.iss,
            options.audience,
            options.claims,
        )
        parameters = list(options.endpoint_params.items())
    grant = Grant(
        options.token_url,
        lambda: options.client_id,
        lambda: read_secret(file, "client_secret_file") if file else options.client_secret.get_secret_value(),
        options.scopes,
        parameters,
        signed,
    )
    return Tokens(grant, route_of(options, tls_of(options.tls_config)), user_agent, timeout=0)


def tls_of(options: TlsConfig) -> ClientTls:
    """The TLS context of `tls_config`, made again when one of its files changed."""
    block = TlsClientBlock(
        ca_file=options.ca_file,
        ca_pem=Secret(options.ca) if options.ca else None,
        cert_file=options.cert_file,
        cert_pem=Secret(options.cert) if options.cert else None,
        key_file=options.key_file,
        key_pem=options.key if options.key.get_secret_value() else None,
        min_version=_VERSIONS[options.min_version],
        max_version=_VERSIONS[options.max_version],
        insecure_skip_verify=options.insecure_skip_verify,
        server_name_override=options.server_name,
    )
    return ClientTls(block, "tls_config", every=0.0)


def route_of(options: ProxyOptions, tls: ClientTls) -> Route:
    """How servers are reached with these options."""
    headers: Mapping[str, str] = {
        name: ", ".join(value.get_secret_value() for value in values) for name, values in options.proxy_connect_header.items()
    }
    return Route(tls.context, lambda target: proxy_for(options, target), tls.server_name, headers)


def proxy_for(options: ProxyOptions, target: URL) -> str | None:
    """URL of the proxy to use for a target, None for a direct connection. ValueError for a variable that names no usable proxy."""
    if options.proxy_from_environment:
        return environment_proxy(str(target))
    if not options.proxy_url or (options.no_proxy and is_direct(options.no_proxy, target)):
        return None  # without no_proxy even localhost goes through the proxy, as in Prometheus
    return options.proxy_url


def read_secret(path: str, what: str) -> str:
    """The content of a small file without the newline at its end. Raises FetchError naming the file."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read(1 << 20).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise FetchError(f"{what} {path}: {reason}") from None
