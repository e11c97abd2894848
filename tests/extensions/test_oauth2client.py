"""oauth2client: tokens of a real server over HTTP, kept, renewed before their end, and never shown."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import ValidationError

from kofagent.component.protocols import StartError
from kofagent.extensions.oauth2client import COMPONENT
from kofagent.telemetry.refused import Refused
from tests.support.certificates import Authority
from tests.support.components import make

SECRET = "CANARY-SECRET"
JWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class TokenServer:
    """Gives out `t1`, `t2`, ... of a life in seconds to the client id/CANARY-SECRET; takes the login in a header, or the form only."""

    def __init__(self) -> None:
        self.life: Any = 3600
        self.forms: list[dict[str, Any]] = []
        self.given = 0
        self.in_form = False
        self.broken: web.Response | None = None
        self.gate: asyncio.Event | None = None
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.forms.append({name: form.getall(name) for name in form})
        if self.gate is not None:
            await self.gate.wait()
        if self.broken is not None:
            return web.Response(status=self.broken.status, body=self.broken.body, content_type="application/json")
        login = request.headers.get("Authorization")
        signed = form.get("grant_type") == JWT
        right = form.get("client_secret") == SECRET if self.in_form else login == "Basic aWQ6Q0FOQVJZLVNFQ1JFVA=="
        if not right and not signed:
            return web.json_response({"error": "invalid_client"}, status=401)
        self.given += 1
        return web.json_response({"access_token": f"t{self.given}", "token_type": "bearer", "expires_in": self.life})


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async for one in serving(None):
        yield one


async def serving(tls: ssl.SSLContext | None) -> AsyncIterator[TokenServer]:
    server = TokenServer()
    app = web.Application()
    app.router.add_post("/token", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    server.url = f"http{'s' if tls else ''}://127.0.0.1:{port}/token"
    try:
        yield server
    finally:
        await runner.cleanup()


async def auth(server: TokenServer, **options: Any) -> Any:
    given = {"client_id": "id", "client_secret": SECRET, "token_url": server.url, **options}
    made = make(
        COMPONENT, {name: value for name, value in given.items() if value is not None}, kind="extensions", id="oauth2client"
    )
    await made.start()
    return made


async def header(made: Any) -> str:
    return str((await made.request_headers(None))["authorization"])


async def test_one_token_for_all_until_it_is_replaced_before_its_end(server: TokenServer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = await auth(server, scopes=["a", "b"], endpoint_params={"audience": ["x", "y"], "k": "v"})
    assert set(await asyncio.gather(*[header(made) for _ in range(5)])) == {"Bearer t1"}
    (form,) = server.forms
    assert form == {"grant_type": ["client_credentials"], "scope": ["a b"], "audience": ["x", "y"], "k": ["v"]}
    now += 3299  # expiry_buffer is 5 minutes
    assert await header(made) == "Bearer t1"
    now += 2
    server.life = 60
    assert await header(made) == "Bearer t2"
    now += 29
    assert await header(made) == "Bearer t2"  # shorter than expiry_buffer: half of its life
    now += 2
    assert await header(made) == "Bearer t3"
    await made.stop()


async def test_a_server_that_wants_the_login_in_the_form_is_asked_so_from_then_on(server: TokenServer) -> None:
    server.in_form = True
    made = await auth(server, expiry_buffer="1h")
    server.life = 0.001
    assert await header(made) == "Bearer t1"
    assert [sorted(form) for form in server.forms] == [["grant_type"], ["client_id", "client_secret", "grant_type"]]
    await made.stop()


async def test_files_are_read_for_every_token(server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    (tmp_path / "id").write_text("id\n")
    (tmp_path / "secret").write_text("old\n")
    files = {"client_id_file": str(tmp_path / "id"), "client_secret_file": str(tmp_path / "secret")}
    made = await auth(server, client_id=None, client_secret=None, **files)
    with pytest.raises(Refused, match="the token server answered 401"):
        await header(made)
    asked = len(server.forms)
    with pytest.raises(Refused, match="the token server answered 401"):
        await header(made)
    assert len(server.forms) == asked  # not at once again
    (tmp_path / "secret").write_text(SECRET + "\n")
    now += 1.5
    assert await header(made) == "Bearer t1"
    await made.stop()
    with pytest.raises(StartError, match=r"client_secret_file .*No such file"):
        await auth(server, client_secret=None, client_secret_file=str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        (b"{}", "has no access_token"),
        (b"[" * 50_000, "has no access_token"),
        (b'{"access_token": "a\\nX: y"}', "that can be sent"),
        (b'{"access_token": ""}', "that can be sent"),
        (b'{"access_token": "a", "expires_in": 1e999}', "that can be sent"),
        (b"x" * (2 << 20), "cannot be read"),
    ],
)
async def test_an_answer_without_a_token_is_an_error_that_may_pass(
    server: TokenServer, body: bytes, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.broken = web.Response(body=body)
    made = await auth(server, client_secret=SECRET)
    with pytest.raises(Refused, match=wrong) as refused:
        await header(made)
    assert not refused.value.permanent
    assert made.context.host.statuses["extensions/oauth2client"]
    assert SECRET not in str(refused.value) + caplog.text + repr(made.config)
    await made.stop()


async def test_a_server_that_does_not_answer_costs_the_timeout(server: TokenServer) -> None:
    server.gate = asyncio.Event()
    made = await auth(server, timeout="50ms")
    with pytest.raises(Refused, match=r"did not answer within 0\.05 s"):
        await header(made)
    server.gate.set()
    await made.stop()


async def test_tls_to_the_token_server(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    own = authority.issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.cert, own.key)
    async for server in serving(context):
        made = await auth(server, tls={"ca_file": authority.cert})
        assert await header(made) == "Bearer t1"
        await made.stop()
        other = await auth(server)
        with pytest.raises(Refused, match="certificate"):
            await header(other)
        await other.stop()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@pytest.mark.parametrize("algorithm", ["", "RS512"])
async def test_signed_assertions(server: TokenServer, algorithm: str, tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key").write_bytes(pem)
    made = await auth(
        server,
        client_secret=None,
        grant_type=JWT,
        client_certificate_key_file=str(tmp_path / "key"),
        client_certificate_key_id="k1",
        signature_algorithm=algorithm,
        claims={"tenant": "t"},
        scopes=["s"],
    )
    assert await header(made) == "Bearer t1"
    (form,) = server.forms
    assert form["grant_type"] == [JWT]
    assert form["scope"] == ["s"]
    text, _, signature = form["assertion"][0].rpartition(".")
    digest = hashes.SHA512() if algorithm else hashes.SHA256()
    key.public_key().verify(decoded(signature), text.encode(), padding.PKCS1v15(), digest)
    said, claims = (json.loads(decoded(part)) for part in text.split("."))
    assert said == {"alg": algorithm or "RS256", "typ": "JWT", "kid": "k1"}
    assert (claims["iss"], claims["sub"], claims["aud"], claims["tenant"]) == ("id", "id", server.url, "t")
    assert claims["exp"] - claims["iat"] == 1800
    (tmp_path / "key").write_text("no key")
    broken = await auth(server, client_secret=None, grant_type=JWT, client_certificate_key_file=str(tmp_path / "key"))
    with pytest.raises(Refused, match="is not the PEM of a private key"):
        await header(broken)
    await made.stop()
    await broken.stop()


@pytest.mark.parametrize(
    ("left_out", "error"),
    [("client_id", "no client id"), ("client_secret", "no client secret"), ("token_url", "Field required")],
)
def test_what_is_missing_is_said(left_out: str, error: str) -> None:
    given = {"client_id": "id", "client_secret": "s", "token_url": "http://h/t"}
    del given[left_out]
    with pytest.raises(ValidationError, match=error):
        COMPONENT.Config.model_validate(given)
    if left_out == "client_secret":
        with pytest.raises(ValidationError, match="no key"):
            COMPONENT.Config.model_validate({**given, "grant_type": JWT})
