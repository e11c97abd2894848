"""Options of Prometheus' HTTP client: authentication, TLS, proxy, headers (prometheus.io, http_config)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from kofagent.config.base import AS_WRITTEN, PARAMETERS, ComponentConfig, Secret
from kofagent.prometheus.relabel import Text, scalar_text

SecretText = Annotated[Secret, AS_WRITTEN, BeforeValidator(scalar_text)]
TlsVersion = Literal["", "TLS10", "TLS11", "TLS12", "TLS13"]
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*+([KMGTPE]?)(i?B)?\s*\Z", re.IGNORECASE)


def parse_base2_size(value: Any) -> int:
    """Bytes of `10MB` as Prometheus reads sizes: with or without the `i`, a unit is a power of 1024."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a size; write a number with a unit, such as 16MB")
    return int(float(match[1]) * 1024 ** " KMGTPE".index(match[2].upper() or " "))


Base2Size = Annotated[int, BeforeValidator(parse_base2_size), WithJsonSchema({"type": ["string", "integer"], "format": "bytes"})]
"""Bytes as int; written as Prometheus does (`10MB` is 10 * 1024 * 1024)."""


class BasicAuth(ComponentConfig):
    """`basic_auth`."""

    username: Text = Field("", description="User name.")
    username_file: Text = Field("", description="File with the user name, read for every request.")
    username_ref: Text = Field("", description="Accepted when empty: there is no secret manager.", max_length=0)
    password: SecretText = Field(Secret(""), description="Password.")
    password_file: Text = Field("", description="File with the password, read for every request.")
    password_ref: Text = Field("", description="Accepted when empty: there is no secret manager.", max_length=0)

    @model_validator(mode="after")
    def _one_of(self) -> BasicAuth:
        if self.username and self.username_file:
            raise ValueError("username and username_file are both set; keep one")
        if self.password.get_secret_value() and self.password_file:
            raise ValueError("password and password_file are both set; keep one")
        return self


class Authorization(ComponentConfig):
    """`authorization`."""

    type: Text = Field("Bearer", description="Scheme in the Authorization header.")
    credentials: SecretText = Field(Secret(""), description="Credentials after the scheme.")
    credentials_file: Text = Field("", description="File with the credentials, read for every request.")
    credentials_ref: Text = Field("", description="Accepted when empty: there is no secret manager.", max_length=0)

    @model_validator(mode="after")
    def _one_of(self) -> Authorization:
        self.type = self.type.strip() or "Bearer"
        if self.type.lower() == "basic":
            raise ValueError('type "basic" is not allowed; use basic_auth with username and password')
        if self.credentials.get_secret_value() and self.credentials_file:
            raise ValueError("credentials and credentials_file are both set; keep one")
        return self


class TlsConfig(ComponentConfig):
    """`tls_config`."""

    ca: Text = Field("", description="Trusted CAs as a PEM string.")
    ca_file: Text = Field("", description="PEM file of trusted CAs; empty: the system's.")
    ca_ref: Text = Field("", description="Accepted when empty: there is no secret manager.", max_length=0)
    cert: Text = Field("", description="Client certificate as a PEM string.")
    cert_file: Text = Field("", description="Client certificate as a PEM file.")
    cert_ref: Text = Field("", description="Accepted when empty: there is no secret manager.", max_length=0)
    key: SecretText = Field(Secret(""), description="Client key as a PEM string.")
    key_file: Text = Field("", description="Client key as a PEM file.")
    key_ref: Text = Field("", description="Accepted when empty: there is no secret manager.", max_length=0)
    server_name: Text = Field("", description="Name expected in the server's certificate.")
    insecure_skip_verify: bool = Field(False, description="Do not check the server's certificate.")
    min_version: TlsVersion = Field("", description="Lowest TLS version; empty: TLS12.")
    max_version: TlsVersion = Field("", description="Highest TLS version; empty: the newest.")

    @model_validator(mode="after")
    def _one_of(self) -> TlsConfig:
        key = bool(self.key.get_secret_value())
        both = ((self.ca and self.ca_file, "ca"), (self.cert and self.cert_file, "cert"), (key and self.key_file, "key"))
        for given, name in both:
            if given:
                raise ValueError(f"{name} and {name}_file are both set; keep one")
        if bool(self.cert or self.cert_file) != bool(key or self.key_file):
            raise ValueError("a certificate needs its key and a key its certificate; set both")
        if self.max_version and self.max_version < (self.min_version or "TLS12"):
            raise ValueError("min_version (default: TLS12) is higher than max_version, so no connection would be possible")
        return self


class ProxyOptions(ComponentConfig):
    """Proxy options of a client."""

    proxy_url: Text = Field("", description="URL of an HTTP proxy.")
    no_proxy: Text = Field("", description="Hosts, domains and networks reached without the proxy, separated by commas.")
    proxy_from_environment: bool = Field(False, description="Obey HTTP_PROXY, HTTPS_PROXY and NO_PROXY.")
    proxy_connect_header: dict[str, list[SecretText]] = Field({}, description="Headers of requests to the proxy.")

    @model_validator(mode="after")
    def _proxy(self) -> ProxyOptions:
        if self.proxy_from_environment and (self.proxy_url or self.no_proxy):
            raise ValueError("proxy_from_environment cannot be used with proxy_url or no_proxy; keep one")
        if self.no_proxy and not self.proxy_url:
            raise ValueError("no_proxy without proxy_url has no effect; set proxy_url or remove it")
        if self.proxy_connect_header and not (self.proxy_url or self.proxy_from_environment):
            raise ValueError("proxy_connect_header needs proxy_url or proxy_from_environment")
        if self.proxy_url and urlsplit(self.proxy_url).scheme not in ("http", "https"):
            raise ValueError("proxy_url needs the scheme http or https")
        return self


class OAuth2(ProxyOptions):
    """`oauth2`: the client credentials flow (RFC 6749, section 4.4), or assertions (RFC 7523)."""

    client_id: Text = Field("", description="Client id.")
    client_secret: SecretText = Field(Secret(""), description="Client secret.")
    client_secret_file: Text = Field("", description="File with the client secret, read for every token.")
    client_secret_ref: Text = Field("", description="Accepted when empty: there is no secret manager.", max_length=0)
    grant_type: Literal["", "client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"] = Field(
        "", description="How a token is obtained: with the client secret, or with an assertion signed by client_certificate_key."
    )
    client_certificate_key: SecretText = Field(
        Secret(""), description="RSA key (PEM) that signs assertions. Needs the extra jwt, not in the image."
    )
    client_certificate_key_file: Text = Field("", description="File with that key, read for every token.")
    client_certificate_key_id: Text = Field("", description="Id of the key, `kid` of the assertion.")
    signature_algorithm: Literal["", "RS256", "RS384", "RS512"] = Field(
        "", description="How assertions are signed; default: RS256."
    )
    iss: Text = Field("", description="Issuer of assertions; default: client_id.")
    claims: Annotated[dict[str, Any], PARAMETERS] = Field({}, description="Additional claims of assertions.")
    scopes: list[Text] = Field([], description="Scopes to request.")
    token_url: Text = Field("", description="URL of the token endpoint.")
    audience: Text = Field("", description="Audience parameter of the token request, or of assertions (default: token_url).")
    endpoint_params: Annotated[dict[str, Text], PARAMETERS] = Field({}, description="Additional parameters of the token request.")
    tls_config: TlsConfig = Field(TlsConfig(), description="TLS to the token URL.")

    @model_validator(mode="after")
    def _complete(self) -> OAuth2:
        if not self.client_id or not self.token_url:
            raise ValueError("oauth2 needs client_id and token_url")
        if self.client_secret.get_secret_value() and self.client_secret_file:
            raise ValueError("client_secret and client_secret_file are both set; keep one")
        key = bool(self.client_certificate_key.get_secret_value())
        if key and self.client_certificate_key_file:
            raise ValueError("client_certificate_key and client_certificate_key_file are both set; keep one")
        signed = self.grant_type == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        if signed and not key and not self.client_certificate_key_file:
            raise ValueError(f"grant_type {self.grant_type} needs client_certificate_key or client_certificate_key_file")
        return self


class HttpHeader(ComponentConfig):
    """One entry of `http_headers`: all values of a header."""

    values: list[Text] = Field([], description="Values.")
    secrets: list[SecretText] = Field([], description="Values that are never shown.")
    files: list[Text] = Field([], description="Files with values, read for every request.")


_RESERVED = {
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
}


class HttpClientOptions(ProxyOptions):
    """Client options that scrape jobs and discovery mechanisms share."""

    basic_auth: BasicAuth | None = Field(None, description="User and password.")
    authorization: Authorization | None = Field(None, description="Authorization header.")
    oauth2: OAuth2 | None = Field(None, description="OAuth 2.0 client credentials.")
    bearer_token: SecretText = Field(Secret(""), description="Old name of authorization.credentials.")
    bearer_token_file: Text = Field("", description="Old name of authorization.credentials_file.")
    tls_config: TlsConfig = Field(TlsConfig(), description="TLS options.")
    follow_redirects: bool = Field(True, description="Follow redirects; credentials are sent to the first host only.")
    enable_http2: bool = Field(True, description="Accepted for compatibility; requests are HTTP/1.1.")
    http_headers: dict[str, HttpHeader] = Field({}, description="Additional headers.")

    @model_validator(mode="after")
    def _one_way_in(self) -> HttpClientOptions:
        bearer = bool(self.bearer_token.get_secret_value())
        if bearer and self.bearer_token_file:
            raise ValueError("bearer_token and bearer_token_file are both set; keep one")
        ways = [
            name
            for name, given in (
                ("basic_auth", self.basic_auth),
                ("authorization", self.authorization),
                ("oauth2", self.oauth2),
                ("bearer_token", bearer),
                ("bearer_token_file", self.bearer_token_file),
            )
            if given
        ]
        if len(ways) > 1:
            raise ValueError(f"{' and '.join(ways)} are set; keep one")
        if bearer:
            self.authorization = Authorization(credentials=self.bearer_token)
        elif self.bearer_token_file:
            self.authorization = Authorization(credentials_file=self.bearer_token_file)
        for name in self.http_headers:
            if name.lower() in _RESERVED:
                raise ValueError(f"http_headers cannot set {name}; it has its own option or is set by the scraper")
        return self
