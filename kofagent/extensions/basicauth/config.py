"""Options of the `basicauth` extension."""

from __future__ import annotations

from pydantic import Field, model_validator

from kofagent.config.base import ComponentConfig, Secret


class ClientAuth(ComponentConfig):
    """`client_auth`: what a client sends."""

    username: str = Field("", description="User name, without a colon.")
    password: Secret = Field(Secret(""), description="Password.")
    username_file: str = Field("", description="File with the user name instead of username, read again when it changes.")
    password_file: str = Field("", description="File with the password instead of password, read again when it changes.")

    @model_validator(mode="after")
    def _one_source(self) -> ClientAuth:
        if self.username and self.username_file:
            raise ValueError("username and username_file are both set; keep one")
        if self.password.get_secret_value() and self.password_file:
            raise ValueError("password and password_file are both set; keep one")
        if ":" in self.username:
            raise ValueError("username contains a colon, which basic authentication does not allow")
        return self


class Htpasswd(ComponentConfig):
    """`htpasswd`: what a server accepts."""

    file: str = Field("", description="File in Apache's htpasswd format, read again when it changes.")
    inline: Secret = Field(Secret(""), description="The same as a string; its users take precedence over those of the file.")

    @model_validator(mode="after")
    def _some_source(self) -> Htpasswd:
        if not self.file and not self.inline.get_secret_value():
            raise ValueError("no users; set file or inline")
        return self


class Config(ComponentConfig):
    """Options of upstream's basicauth extension."""

    client_auth: ClientAuth | None = Field(None, description="Credentials for requests of exporters and receivers.")
    htpasswd: Htpasswd | None = Field(None, description="Users that a server accepts.")

    @model_validator(mode="after")
    def _one_side(self) -> Config:
        if self.client_auth and self.htpasswd:
            raise ValueError("client_auth and htpasswd are both set; use two extensions")
        if not self.client_auth and not self.htpasswd:
            raise ValueError("no credentials; set client_auth (to send) or htpasswd (to check)")
        return self
