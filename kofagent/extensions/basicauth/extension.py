"""The extension `basicauth`; see the package's docstring for what it promises."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import importlib
import os
from collections.abc import Mapping

from kofagent.component.protocols import Context, Extension, StartError, Unauthorized
from kofagent.extensions.basicauth import htpasswd
from kofagent.extensions.basicauth.attempts import Attempts
from kofagent.extensions.basicauth.config import Config
from kofagent.memory.memo import Memo
from kofagent.net.peer import sender_address
from kofagent.net.watched_file import WatchedFile
from kofagent.telemetry.batch import Metadata

_AT_ONCE = 2
"""Hashes computed at a time."""


class BasicAuth(Extension[Config]):
    """Signs requests or checks them; see the module."""

    def __init__(self, config: Config, context: Context) -> None:
        super().__init__(config, context)
        client, server = config.client_auth, config.htpasswd
        self._username = WatchedFile(client.username_file) if client and client.username_file else None
        self._password = WatchedFile(client.password_file) if client and client.password_file else None
        self._file = WatchedFile(server.file) if server and server.file else None
        self._version = -1
        self._users: dict[str, str] = {}
        self._key = os.urandom(32)
        self._attempts = Attempts()
        self._slow = asyncio.Semaphore(_AT_ONCE)
        self._right: Memo[str, bytes] = Memo("basicauth.right", entries=2048, size=1 << 20)

    async def start(self) -> None:
        """Reads the files once, so that a missing one fails the start."""
        try:
            if self.config.client_auth:
                self._client_pair()
            else:
                self._load()
        except (OSError, ValueError) as error:
            detail = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise StartError(f"{detail}; mount the file or correct its name") from None
        if self.config.htpasswd and not self._users:
            raise StartError("htpasswd has no users; every request would be refused")

    async def request_headers(self, metadata: Metadata | None) -> Mapping[str, str]:
        """`Authorization: Basic ...`; the header is lower case, as gRPC wants it."""
        if self.config.client_auth is None:
            raise StartError(f"extension {self.context.id!r} has no client_auth, which a client needs")
        username, password = self._client_pair()
        token = base64.b64encode(f"{username}:{password}".encode()).decode()
        return {"authorization": f"Basic {token}"}

    async def authenticate(self, headers: Mapping[str, str]) -> Metadata:
        """The user as `auth.username`; Unauthorized for anything else than a known user with the right password."""
        if self.config.htpasswd is None:
            raise Unauthorized("this authenticator is for clients only")
        value = headers.get("authorization") or headers.get("Authorization")
        if not value:
            raise Unauthorized("no basic auth provided")
        scheme, _, encoded = value.partition(" ")
        if scheme.lower() != "basic":
            raise Unauthorized("invalid authorization scheme prefix")
        try:
            username, colon, password = base64.b64decode(encoded, validate=True).decode("utf-8", "surrogateescape").partition(":")
        except (ValueError, binascii.Error):
            raise Unauthorized("invalid authorization format") from None
        if not colon:
            raise Unauthorized("invalid authorization format")
        self._load()
        stored = self._users.get(username)
        if self._is_right(username, password, stored):
            return {"auth.username": (username,)}
        attempts = self._attempts.of(sender_address(), username)
        if attempts.used_up():
            raise Unauthorized("too many wrong passwords, try again later")
        # A name that does not exist costs what a user's does, so that the time does not tell which names exist.
        right = await self._matches(username, password, self._any_hash(username) if stored is None else stored)
        if stored is None or not right:
            attempts.count()
            raise Unauthorized("invalid credentials")
        return {"auth.username": (username,)}

    def _digest(self, password: str, stored: str) -> bytes:
        return hmac.digest(self._key, f"{stored}\0{password}".encode("utf-8", "surrogateescape"), hashlib.sha256)

    def _is_right(self, username: str, password: str, stored: str | None) -> bool:
        """Whether this login was found right before; it is not held up by wrong ones."""
        known = self._right.find(username) if stored is not None else None
        return known is not None and stored is not None and hmac.compare_digest(known, self._digest(password, stored))

    async def _matches(self, username: str, password: str, stored: str) -> bool:
        digest = self._digest(password, stored)
        if stored.startswith("$"):
            # Slow by design (tens of milliseconds), so it runs outside of the event loop, and not for many at a time.
            async with self._slow:
                right = await asyncio.to_thread(htpasswd.matches, password, stored)
        else:
            right = htpasswd.matches(password, stored)
        if right and username in self._users:
            self._right[username] = digest
        return right

    def _any_hash(self, username: str) -> str:
        """The hash of some user, always the same one for a name."""
        hashes = list(self._users.values())
        if not hashes:
            return ""
        digest = hmac.digest(self._key, username.encode("utf-8", "surrogateescape"), hashlib.sha256)
        return hashes[int.from_bytes(digest[:8], "big") % len(hashes)]

    def _client_pair(self) -> tuple[str, str]:
        client = self.config.client_auth
        if client is None:
            raise ValueError("client_auth is not set")
        username = self._username.read().decode("utf-8-sig").strip() if self._username else client.username
        # One newline at the end is an editor's, more are the password's.
        password = (
            self._password.read().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
            if self._password
            else client.password.get_secret_value()
        )
        if self._username or self._password:
            self.context.report(next((f.error for f in (self._username, self._password) if f and f.error), None))
        if ":" in username:
            raise ValueError("the user name contains a colon, which basic authentication does not allow")
        return username, password

    def _load(self) -> None:
        options = self.config.htpasswd
        if options is None:
            return
        text = self._file.read().decode("utf-8-sig", "surrogateescape") if self._file else ""
        if self._file:
            self.context.report(self._file.error)
            if self._file.version == self._version:
                return
            self._version = self._file.version
        elif self._version == 0:
            return
        else:
            self._version = 0
        users, problems = htpasswd.parse(text)
        inline, inline_problems = htpasswd.parse(options.inline.get_secret_value())
        users.update(inline)
        for problem in [*(f"{options.file}: {p}" for p in problems), *(f"inline: {p}" for p in inline_problems)]:
            self.context.log.warning("htpasswd: ignored %s", problem)
        if htpasswd.needs_bcrypt(users):
            try:
                importlib.import_module("bcrypt")
            except ImportError:
                raise StartError("htpasswd has bcrypt hashes; install kofagent[auth] or use another hash") from None
        self._users = users
        self._right.clear()
