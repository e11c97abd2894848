"""Access tokens of OAuth 2.0 for machines: the client credentials flow (RFC 6749, section 4.4) and signed assertions (RFC 7523).

A token is fetched when it is needed, kept, and fetched again before it ends; those who need it at the same time wait for one
request. The login goes into a header, and into the form once a server refused that. Errors are sentences without secrets.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, urlencode

from yarl import URL

from kofagent.component.protocols import StartError
from kofagent.net.body import read_body
from kofagent.net.compression import CorruptBody, TooLarge, UnknownEncoding
from kofagent.net.transport import FAILURES, Route, Transport, failure
from kofagent.wire.foreign_json import read_json

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ALGORITHMS = ("RS256", "RS384", "RS512")
_LIMIT = 1 << 20
_ASSERTION_SECONDS = 1800
_AGAIN_SECONDS = 1.0
"""After a failure the token server is not asked again for so long: whoever waits for a token gets the same error."""


class TokenError(Exception):
    """There is no token; the message is a sentence without secrets."""


@dataclass(frozen=True)
class Assertion:
    """How a client says who it is with a signature in place of a secret. The key is read for every token."""

    key: Callable[[], str]
    key_id: str = ""
    algorithm: str = "RS256"
    issuer: str = ""
    """Empty: the client id."""
    audience: str = ""
    """Empty: the token URL."""
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Grant:
    """What is asked for. Id, secret and key are read for every token; reading may raise TokenError."""

    token_url: str
    client_id: Callable[[], str]
    secret: Callable[[], str]
    scopes: Sequence[str] = ()
    parameters: Sequence[tuple[str, str]] = ()
    """Further parameters; of those that the flow sets itself only grant_type can be replaced."""
    assertion: Assertion | None = None


class Tokens:
    """The token of one client. It belongs to the running event loop between the first `header` and `stop`."""

    def __init__(self, grant: Grant, route: Route, user_agent: str, *, before: float = 10.0, timeout: float = 30.0) -> None:
        """A token is replaced `before` seconds ahead of its end, of a short-lived one when half of its life is over.

        `timeout`: seconds for one request to the token server.
        """
        self._grant = grant
        self._route = route
        self._agent = user_agent
        self._before = before
        self._timeout = timeout
        self._transport = Transport()
        self._lock = asyncio.Lock()
        self._header = ""
        self._until = 0.0
        self._in_form = False
        self._failed: TokenError | None = None
        self._again = 0.0

    async def stop(self) -> None:
        """Closes the connection to the token server."""
        await self._transport.stop()

    async def header(self) -> str:
        """The value of the Authorization header. TokenError."""
        if time.monotonic() < self._until:
            return self._header
        async with self._lock:
            if time.monotonic() >= self._until:
                if self._failed is not None and time.monotonic() < self._again:
                    raise TokenError(str(self._failed))
                try:
                    await self._fetch()
                    self._failed = None
                except TokenError as error:
                    self._failed, self._again = error, time.monotonic() + _AGAIN_SECONDS
                    raise
            return self._header

    async def _fetch(self) -> None:
        if not self._transport.running:
            await self._transport.start()
        signed = self._grant.assertion is not None
        status, body = await self._ask(in_form=self._in_form)
        if not signed and not self._in_form and status in (400, 401):  # the server may not know logins in a header
            status, body = await self._ask(in_form=True)
            self._in_form = status // 100 == 2
        if status // 100 != 2:
            raise TokenError(f"the token server answered {status}")
        self._remember(body)

    async def _ask(self, *, in_form: bool) -> tuple[int, bytes]:
        grant = self._grant
        headers = {
            "User-Agent": self._agent,
            "Accept-Encoding": "identity",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        form: dict[str, str] = {"grant_type": "client_credentials"}
        if grant.scopes:
            form["scope"] = " ".join(grant.scopes)
        if grant.assertion is not None:
            form |= {"grant_type": JWT_BEARER, "assertion": assertion(grant, grant.assertion)}
        elif in_form:
            form |= {"client_id": grant.client_id(), "client_secret": grant.secret()}
        else:
            login = f"{quote_plus(grant.client_id())}:{quote_plus(grant.secret())}"
            headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
        fixed = form.keys() - {"grant_type"}
        given = [(name, value) for name, value in grant.parameters if name not in fixed]
        pairs = [(name, value) for name, value in form.items() if not any(name == other for other, _ in given)] + given
        try:
            async with asyncio.timeout(self._timeout or None):
                body = urlencode(pairs).encode()
                async with await self._transport.send(
                    "POST", URL(grant.token_url), self._route, headers, body=body, follow=False
                ) as answer:
                    return answer.status, await read_body(answer, _LIMIT)
        except TimeoutError:
            raise TokenError(f"the token server did not answer within {self._timeout:g} s") from None
        except StartError as error:
            raise TokenError(str(error)) from None
        except (TooLarge, CorruptBody, UnknownEncoding):
            raise TokenError("the token server's answer cannot be read") from None
        except (*FAILURES, ValueError) as error:
            raise TokenError(failure(error).sentence) from None

    def _remember(self, answer: bytes) -> None:
        try:
            found = read_json(answer)
            token, kind = found["access_token"], str(found.get("token_type") or "Bearer")
            life = float(found.get("expires_in") or 3600)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise TokenError("the token server's answer has no access_token") from None
        header = f"{'Bearer' if kind.lower() == 'bearer' else kind} {token}"
        if not isinstance(token, str) or not token or not header.isascii() or not header.isprintable() or not math.isfinite(life):
            raise TokenError("the token server's answer has no access_token that can be sent")
        self._header = header
        self._until = time.monotonic() + max(life - self._before, life / 2, 1.0)


def assertion(grant: Grant, how: Assertion, now: float | None = None) -> str:
    """A signed JSON Web Token that says who the client is, for half an hour. TokenError."""
    client, issued = grant.client_id(), int(time.time() if now is None else now)
    header: dict[str, Any] = {"alg": how.algorithm, "typ": "JWT"}
    if how.key_id:
        header["kid"] = how.key_id
    claims: dict[str, Any] = {
        "iss": how.issuer or client,
        "sub": client,
        "jti": str(uuid.uuid4()),
        "aud": how.audience or grant.token_url,
        "iat": issued,
        "exp": issued + _ASSERTION_SECONDS,
    }
    if grant.scopes:
        claims["scope"] = " ".join(grant.scopes)
    text = b".".join(_base64(json.dumps(part, separators=(",", ":")).encode()) for part in (header, {**claims, **how.claims}))
    return (text + b"." + _base64(_signature(how, text))).decode()


def _signature(how: Assertion, text: bytes) -> bytes:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
    except ImportError:
        raise TokenError("signed assertions need the extra jwt: pip install 'kofagent[jwt]'") from None
    try:
        key = serialization.load_pem_private_key(how.key().encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TokenError("client_certificate_key is not the PEM of a private key without a passphrase") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TokenError("client_certificate_key is not an RSA key")
    digests: dict[str, hashes.HashAlgorithm] = {"RS256": hashes.SHA256(), "RS384": hashes.SHA384(), "RS512": hashes.SHA512()}
    return key.sign(text, padding.PKCS1v15(), digests[how.algorithm])


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
