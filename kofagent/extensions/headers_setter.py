"""`headers_setter`: sets headers of outgoing requests, from the configuration or from the request that brought the data.

Upstream: extension/headerssetterextension of the collector's contrib. `from_context` reads a header of the incoming request
(receivers with `include_metadata: true`), `from_attribute` an attribute from the server's authenticator (`auth.username` of
basicauth). Actions apply to the headers of `additional_auth`, the authenticator that is called first. The exporter's own
`headers` are set before and can be overwritten but not seen: `insert`, `update` and `delete` consider only those of
`additional_auth`. If the request does not have the value, `default_value` is used, or an empty one, as upstream.

The start fails if a file of `value_file` cannot be read; later its last content stays in use and the status reports it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from kofagent.component.protocols import ClientAuth, Context, Extension, StartError
from kofagent.config.base import ClientAuthId, ComponentConfig, Secret
from kofagent.net.watched_file import WatchedFile
from kofagent.telemetry.batch import Metadata


class Header(ComponentConfig):
    """One header."""

    action: Literal["insert", "update", "upsert", "delete"] = Field(
        "upsert", description="insert: if absent; update: if present; upsert: always; delete."
    )
    key: str = Field(min_length=1, description="Name of the header.")
    value: Secret | None = Field(None, description="The value.")
    value_file: str | None = Field(None, description="File with the value, read again when it changes.")
    from_context: str | None = Field(None, description="Name of a header of the incoming request.")
    from_attribute: str | None = Field(None, description="Attribute of the incoming request's authentication.")
    default_value: Secret | None = Field(None, description="Value if from_context or from_attribute finds none.")

    @model_validator(mode="after")
    def _one_source(self) -> Header:
        sources = [n for n in ("value", "value_file", "from_context", "from_attribute") if getattr(self, n) is not None]
        if self.action == "delete":
            return self
        if len(sources) != 1:
            raise ValueError(f"header {self.key!r} needs exactly one of value, value_file, from_context and from_attribute")
        if self.default_value is not None and sources[0] in ("value", "value_file"):
            raise ValueError(f"header {self.key!r}: default_value can only be used with from_context and from_attribute")
        return self


class Config(ComponentConfig):
    """Options of upstream's headers_setter extension."""

    headers: list[Header] = Field(description="Headers, in order.", min_length=1)
    additional_auth: ClientAuthId | None = Field(None, description="Authenticator whose headers are set first.")


class HeadersSetter(Extension[Config]):
    """Adds headers to requests; see the module."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        self._files = {h.value_file: WatchedFile(h.value_file) for h in config.headers if h.value_file}
        self._first: ClientAuth | None = None

    async def start(self) -> None:
        """Finds the other authenticator and reads the files once."""
        if self.config.additional_auth:
            self._first = self.context.host.extension(self.config.additional_auth, ClientAuth)
        for path, file in self._files.items():
            try:
                file.read()
            except (OSError, ValueError) as error:
                raise StartError(f"value_file: {path}: {getattr(error, 'strerror', None) or error}; mount the file") from None

    async def request_headers(self, metadata: Metadata | None) -> Mapping[str, str]:
        """The headers; names in lower case, as gRPC wants them."""
        out: dict[str, str] = {}
        if self._first is not None:
            out.update({k.lower(): v for k, v in (await self._first.request_headers(metadata)).items()})
        for header in self.config.headers:
            name = header.key.lower()
            if header.action == "delete":
                out.pop(name, None)
            elif header.action == "upsert" or (header.action == "insert") is (name not in out):
                out[name] = self._value(header, metadata or {})
        return out

    def _value(self, header: Header, metadata: Metadata) -> str:
        if header.value is not None:
            return header.value.get_secret_value()
        if header.value_file is not None:
            file = self._files[header.value_file]
            text = file.read().decode("utf-8-sig", "replace").strip()
            self.context.report(file.error)
            return text
        if header.from_context is not None:
            found = metadata.get(header.from_context.lower(), ())
        else:
            name = (header.from_attribute or "").lower()
            found = metadata.get(name if name.startswith("auth.") else f"auth.{name}", ())
        if found:
            # A line break would begin another header.
            return found[0].replace("\r", "").replace("\n", "")
        return header.default_value.get_secret_value() if header.default_value is not None else ""


COMPONENT = HeadersSetter
