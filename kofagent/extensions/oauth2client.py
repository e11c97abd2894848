"""`oauth2client`: access tokens of OAuth 2.0 for exporters and other clients, over HTTP and gRPC.

Upstream: extension/oauth2clientauthextension of the collector's contrib. The token of the client credentials flow (or, with
`grant_type: urn:ietf:params:oauth:grant-type:jwt-bearer`, of a signed assertion) is shared by all that name this extension, kept,
and replaced `expiry_buffer` before it ends, or when half of its life is over if it is shorter than that. Files are read for every
token. A request for which there is no token fails as one that cannot reach its backend: it is tried again, nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from kofagent import __version__
from kofagent.component.protocols import Context, Extension, StartError
from kofagent.config.base import PARAMETERS, ComponentConfig, Duration, Secret, Url
from kofagent.config.blocks import TlsClientBlock
from kofagent.net.oauth2 import JWT_BEARER, Assertion, Grant, TokenError, Tokens
from kofagent.net.proxy import environment_proxy
from kofagent.net.tls import ClientTls
from kofagent.net.transport import Route
from kofagent.telemetry.batch import Metadata
from kofagent.telemetry.refused import Refused


def _several(value: Any) -> Any:
    """A single value in place of a list of one."""
    if not isinstance(value, dict):
        return value
    return {name: one if isinstance(one, list) else [one] for name, one in value.items()}


class Config(ComponentConfig):
    """Options of upstream's oauth2client extension."""

    client_id: str = Field("", description="Client id.")
    client_id_file: str = Field("", description="File with the client id; it takes precedence.")
    client_secret: Secret = Field(Secret(""), description="Client secret.")
    client_secret_file: str = Field("", description="File with the client secret; it takes precedence.")
    client_certificate_key: Secret = Field(
        Secret(""), description="RSA key (PEM) that signs assertions. Needs the extra jwt, not in the image."
    )
    client_certificate_key_file: str = Field("", description="File with that key; it takes precedence.")
    client_certificate_key_id: str = Field("", description="Id of the key, `kid` of the assertion.")
    grant_type: Literal["", "client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"] = Field(
        "", description="How a token is obtained: with the client secret, or with an assertion signed by client_certificate_key."
    )
    signature_algorithm: Literal["", "RS256", "RS384", "RS512"] = Field(
        "", description="How assertions are signed; default: RS256."
    )
    iss: str = Field("", description="Issuer of assertions; default: the client id.")
    audience: str = Field("", description="Audience of assertions; default: token_url.")
    claims: Annotated[dict[str, Any], PARAMETERS] = Field({}, description="Additional claims of assertions.")
    token_url: Url = Field(description="URL of the token endpoint.", min_length=1)
    scopes: list[str] = Field([], description="Scopes to request.")
    endpoint_params: Annotated[dict[str, list[str]], BeforeValidator(_several), PARAMETERS] = Field(
        {}, description="Additional parameters of the token request."
    )
    timeout: Duration = Field(0.0, ge=0, description="Longest time of a token request; 0: no limit.")
    expiry_buffer: Duration = Field(300.0, ge=0, description="How long before its end a token is replaced.")
    tls: TlsClientBlock = Field(TlsClientBlock(), description="TLS to the token endpoint.")

    @model_validator(mode="after")
    def _complete(self) -> Config:
        if not self.client_id and not self.client_id_file:
            raise ValueError("no client id; set client_id or client_id_file")
        signed = self.grant_type == JWT_BEARER
        if signed and not self.client_certificate_key.get_secret_value() and not self.client_certificate_key_file:
            raise ValueError("no key; set client_certificate_key or client_certificate_key_file")
        if not signed and not self.client_secret.get_secret_value() and not self.client_secret_file:
            raise ValueError("no client secret; set client_secret or client_secret_file")
        return self


class OAuth2Client(Extension[Config]):
    """Signs requests; see the module."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._tls = ClientTls(config.tls, every=config.tls.reload_interval or None)
        route = Route(self._tls.context, lambda url: environment_proxy(str(url.origin())), config.tls.server_name_override)
        agent = f"kofagent/{__version__}"
        self._tokens = Tokens(self._grant(), route, agent, before=config.expiry_buffer, timeout=config.timeout)

    def _grant(self) -> Grant:
        config = self.config

        def value(text: str, file: str, what: str) -> str:
            return _read(file, what) if file else text

        signed = None
        if config.grant_type == JWT_BEARER:
            signed = Assertion(
                lambda: value(
                    config.client_certificate_key.get_secret_value(),
                    config.client_certificate_key_file,
                    "client_certificate_key_file",
                ),
                config.client_certificate_key_id,
                config.signature_algorithm or "RS256",
                config.iss,
                config.audience,
                config.claims,
            )
        return Grant(
            config.token_url,
            lambda: value(config.client_id, config.client_id_file, "client_id_file"),
            lambda: value(config.client_secret.get_secret_value(), config.client_secret_file, "client_secret_file"),
            config.scopes,
            [(name, one) for name, values in config.endpoint_params.items() for one in values],
            signed,
        )

    async def start(self) -> None:
        """Reads the files once, so that one that is missing fails the start; the first token is fetched with the first request."""
        config = self.config
        self._tls.check()
        for file, what in (
            (config.client_id_file, "client_id_file"),
            (config.client_secret_file, "client_secret_file"),
            (config.client_certificate_key_file, "client_certificate_key_file"),
        ):
            try:
                if file:
                    _read(file, what)
            except TokenError as error:
                raise StartError(f"{error}; mount the file or correct its name") from None

    async def stop(self) -> None:
        """Closes the connection to the token server."""
        await self._tokens.stop()

    async def request_headers(self, metadata: Metadata | None) -> Mapping[str, str]:
        """The Authorization header. Refused, to be tried again, while there is no token."""
        try:
            header = await self._tokens.header()
        except TokenError as error:
            self.context.report(str(error))
            raise Refused("no credentials", f"{self.context.id}: {error}") from None
        self.context.report(None)
        return {"authorization": header}


def _read(path: str, what: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read(1 << 20).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise TokenError(f"{what} {path}: {error.strerror if isinstance(error, OSError) else 'not UTF-8'}") from None


COMPONENT = OAuth2Client
