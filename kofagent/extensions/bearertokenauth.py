"""`bearertokenauth`: a bearer token (RFC 6750) in a header, sent by clients or checked by servers.

Upstream: extension/bearertokenauthextension of the collector's contrib. A client sends the first token; a server accepts
any of them, compared in constant time. `filename` has one token per line and takes precedence over `token` and `tokens`; it is
read again when it changes (checked at most once a second). If the file becomes unreadable, its last content stays in use and the
extension's status reports it; a file that is unreadable at start fails the start, or is waited for with `file_retry`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Mapping

from pydantic import Field, model_validator

from kofagent.component.protocols import Context, Extension, StartError, Unauthorized
from kofagent.config.base import ComponentConfig, Duration, Secret
from kofagent.net.watched_file import WatchedFile
from kofagent.telemetry.batch import Metadata


class FileRetry(ComponentConfig):
    """`file_retry`: wait at start for a file that does not exist yet."""

    enabled: bool = Field(False, description="Try again instead of failing the start.")
    max_retries: int = Field(5, ge=0, description="Number of further attempts.")
    retry_interval: Duration = Field(1.0, description="Time between two attempts.")


class Config(ComponentConfig):
    """Options of upstream's bearertokenauth extension."""

    scheme: str = Field("Bearer", description="Scheme before the token; empty: the token alone.")
    header: str = Field("Authorization", min_length=1, description="Header with the token.")
    token: Secret = Field(Secret(""), description="The token.")
    tokens: list[Secret] = Field([], description="Several tokens; a client sends the first.")
    filename: str = Field("", description="File with one token per line, read again when it changes.")
    file_retry: FileRetry = Field(FileRetry(), description="Wait for filename at start.")

    @model_validator(mode="after")
    def _some_source(self) -> Config:
        token = self.token.get_secret_value()
        if token and self.tokens:
            raise ValueError("token and tokens are both set; keep one")
        if not (token or self.tokens or self.filename):
            raise ValueError("no token; set token, tokens or filename")
        if any(not t.get_secret_value() for t in self.tokens):
            raise ValueError("an empty token in tokens would accept every request; remove it")
        return self


class BearerTokenAuth(Extension[Config]):
    """Signs requests and checks them; see the module."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._header = config.header.lower()
        self._file = WatchedFile(config.filename) if config.filename else None
        self._version = -1
        self._values: list[str] = []
        self._digests: list[bytes] = []
        if self._file is None:
            self._set(
                [config.token.get_secret_value()]
                if config.token.get_secret_value()
                else [t.get_secret_value() for t in config.tokens]
            )

    def _set(self, tokens: list[str]) -> None:
        scheme = self.config.scheme
        self._values = [f"{scheme} {t}" if scheme else t for t in tokens]
        self._digests = [_digest(v) for v in self._values]

    async def start(self) -> None:
        """Reads the file once, waiting for it as `file_retry` says."""
        retry = self.config.file_retry
        for attempt in range(retry.max_retries + 1 if retry.enabled else 1):
            try:
                self._load()
                return
            except (OSError, ValueError) as error:
                detail = f"{self.config.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
                if not retry.enabled or attempt == retry.max_retries:
                    raise StartError(f"filename: {detail}; mount the file or correct its name") from None
            await asyncio.sleep(retry.retry_interval)

    def _load(self) -> None:
        if self._file is None:
            return
        data = self._file.read()
        self.context.report(self._file.error)
        if self._file.version == self._version:
            return
        try:
            tokens = [line.strip() for line in data.decode("utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise ValueError(f"{self.config.filename} is not text") from None
        if not tokens:
            if self._version < 0:
                raise ValueError(f"{self.config.filename} has no token")
            self.context.report(f"{self.config.filename} has no token; the last one stays in use")
            return
        self._version = self._file.version
        self._set(tokens)

    async def request_headers(self, metadata: Metadata | None) -> Mapping[str, str]:
        """The header with the first token; its name is lower case, as gRPC wants it."""
        self._load()
        return {self._header: self._values[0]}

    async def authenticate(self, headers: Mapping[str, str]) -> Metadata:
        """Nothing to add; Unauthorized without one of the tokens."""
        value = headers.get(self._header) or headers.get(self.config.header)
        if not value:
            raise Unauthorized(f"missing {self.config.header} header")
        self._load()
        given = _digest(value)
        # All of them are compared, so that timing does not reveal a near match.
        if not any([hmac.compare_digest(given, d) for d in self._digests]):  # noqa: C419
            raise Unauthorized("provided authorization does not match")
        return {}


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()


COMPONENT = BearerTokenAuth
