"""basicauth: both directions, all hash formats (htpasswd and openssl made some of them), files that change."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import bcrypt
import pytest
from pydantic import ValidationError

from kofagent.component.protocols import StartError, Unauthorized
from kofagent.extensions.basicauth import COMPONENT, htpasswd
from kofagent.extensions.basicauth.attempts import BURST
from kofagent.net.peer import sender
from tests.support.components import FakeHost, make


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("kind", ["-apr1", "-1", "-5", "-6"])
@pytest.mark.parametrize("password", ["secret", "p", "x" * 100, "p\u00e4ss:word"])
def test_crypt_formats_equal_openssl(kind: str, password: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    stored = (
        subprocess.run(
            ["openssl", "passwd", kind, "-salt", "saltsalt", "-stdin"],
            input=password.encode() + b"\n",
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .strip()
    )
    htpasswd.check(stored)
    assert htpasswd.matches(password, stored)
    assert not htpasswd.matches(password + "x", stored)


def test_other_formats() -> None:
    salted = base64.b64encode(__import__("hashlib").sha1(b"secretSALT").digest() + b"SALT").decode()
    for stored in (
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{SSHA}" + salted,
        "secret",
        bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$"),
    ):
        assert htpasswd.matches("secret", stored), stored
        assert not htpasswd.matches("Secret", stored), stored


def test_bad_lines_are_named_by_number_only() -> None:
    users, problems = htpasswd.parse("a:x\n# comment\n\nnocolon\nb:$2y$bad\nc:{SHA}!!\nd:$6$\n")
    assert users == {"a": "x"}
    assert problems == [
        "line 4: not user:hash",
        "line 5: malformed bcrypt hash",
        "line 6: malformed {SHA} hash",
        "line 7: malformed SHA crypt hash",
    ]


async def test_client_sends_the_header() -> None:
    auth = make(COMPONENT, {"client_auth": {"username": "user", "password": "pass"}}, kind="extensions")
    await auth.start()
    assert await auth.request_headers(None) == basic("user", "pass")
    assert "pass'" not in repr(auth.config)


@pytest.mark.parametrize("name", ["username", "username_file"])
async def test_client_files_are_read_again(name: str, tmp_path: Path) -> None:
    user, password = tmp_path / "u", tmp_path / "p"
    user.write_text("user\n")
    password.write_text("one\n")
    named = {name: "user" if name == "username" else str(user)}
    auth = make(COMPONENT, {"client_auth": {**named, "password_file": str(password)}}, kind="extensions")
    await auth.start()
    assert await auth.request_headers(None) == basic("user", "one")
    auth._password._interval = auth._password._next = 0
    password.write_text("three")
    assert await auth.request_headers(None) == basic("user", "three")
    password.unlink()
    auth._password._next = 0
    assert await auth.request_headers(None) == basic("user", "three")
    assert "No such file" in auth.context.host.statuses["extensions/test"]


async def test_missing_file_fails_the_start(tmp_path: Path) -> None:
    auth = make(COMPONENT, {"client_auth": {"username": "u", "password_file": str(tmp_path / "none")}}, kind="extensions")
    with pytest.raises(StartError, match="none: No such file"):
        await auth.start()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"client_auth": {"username": "a"}, "htpasswd": {"inline": "a:b"}},
        {"client_auth": {"username": "a:b"}},
        {"htpasswd": {}},
        {"client_auth": {"username": "a", "username_file": "b"}},
    ],
)
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ValidationError):
        make(COMPONENT, options, kind="extensions")


async def test_server(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text("anna:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nbert:old\n")
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    auth = make(COMPONENT, {"htpasswd": {"file": str(file), "inline": f"bert:new\ncarl:{hashed}"}}, kind="extensions")
    await auth.start()
    assert await auth.authenticate(basic("anna", "secret")) == {"auth.username": ("anna",)}
    assert await auth.authenticate(basic("bert", "new")) == {"auth.username": ("bert",)}
    for _ in range(2):
        assert await auth.authenticate(basic("carl", "secret")) == {"auth.username": ("carl",)}
    for headers in (
        basic("anna", "wrong"),
        basic("bert", "old"),
        basic("nobody", "secret"),
        basic("carl", "secre"),
        {},
        {"authorization": "Bearer x"},
        {"authorization": "Basic !!"},
        {"authorization": "Basic " + base64.b64encode(b"nocolon").decode()},
    ):
        with pytest.raises(Unauthorized) as refused:
            await auth.authenticate(headers)
        assert "secret" not in str(refused.value)
    with pytest.raises(StartError, match="has no client_auth, which a client needs"):
        await auth.request_headers(None)


async def test_server_forgets_a_password_that_changed(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text("anna:one\n")
    auth = make(COMPONENT, {"htpasswd": {"file": str(file)}}, kind="extensions", host=FakeHost())
    await auth.start()
    await auth.authenticate(basic("anna", "one"))
    file.write_text("anna:other\n")
    auth._file._next = 0
    with pytest.raises(Unauthorized):
        await auth.authenticate(basic("anna", "one"))
    await auth.authenticate(basic("anna", "other"))


async def test_a_right_bcrypt_password_is_paid_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    auth = make(COMPONENT, {"htpasswd": {"inline": f"a:{stored}"}}, kind="extensions")
    await auth.start()
    checks = []
    real = htpasswd.matches
    monkeypatch.setattr(htpasswd, "matches", lambda p, s: checks.append(p) or real(p, s))
    for _ in range(5):
        await auth.authenticate(basic("a", "secret"))
    assert len(checks) == 1


@pytest.mark.parametrize("kind", ["5", "6"])
def test_long_passwords_of_crypt_formats_are_refused(kind: str) -> None:
    for size, right in ((512, True), (513, False)):
        stored = f"${kind}$rounds=1000$salt${htpasswd.sha_crypt(b'x' * size, b'salt', 1000, kind)}"
        assert htpasswd.matches("x" * size, stored) is right


async def test_an_unknown_name_costs_what_a_known_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    auth = make(COMPONENT, {"htpasswd": {"inline": f"a:{stored}"}}, kind="extensions")
    await auth.start()
    checks = []
    real = htpasswd.matches
    monkeypatch.setattr(htpasswd, "matches", lambda p, s: checks.append(s) or real(p, s))
    for name in ("a", "nobody", "nobody"):
        with pytest.raises(Unauthorized):
            await auth.authenticate(basic(name, "wrong"))
    for _ in range(2):
        with pytest.raises(Unauthorized):
            await auth.authenticate(basic("nobody", "secret"))
    assert checks == [stored] * 5


async def test_guessing_ends_and_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    matches = htpasswd.matches

    def counted(password: str, stored: str) -> bool:
        nonlocal calls
        calls += 1
        return matches(password, stored)

    monkeypatch.setattr(htpasswd, "matches", counted)
    auth = make(COMPONENT, {"htpasswd": {"inline": "alice:right\nbob:right\n"}}, kind="extensions")
    await auth.start()
    address = "10.0.0.1"
    sender.set(lambda: address)
    assert await auth.authenticate(basic("bob", "right"))
    calls = 0
    for attempt in range(200):
        for name in ("alice", "nobody", "bob"):
            with pytest.raises(Unauthorized, match="too many" if attempt >= BURST else "invalid credentials"):
                await auth.authenticate(basic(name, f"wrong{attempt}"))
    assert calls == 3 * BURST
    assert await auth.authenticate(basic("bob", "right"))  # known to be right, from the same address
    with pytest.raises(Unauthorized, match="too many"):
        await auth.authenticate(basic("alice", "right"))
    address = "10.0.0.2"
    assert await auth.authenticate(basic("alice", "right"))
