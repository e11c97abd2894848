"""Apache htpasswd lines: whether a password matches a stored hash. No I/O.

Formats, as upstream's library reads them: MD5 crypt (`$apr1$`, `$1$`), `{SHA}`, `{SSHA}`, bcrypt (`$2a$`, `$2b$`, `$2x$`,
`$2y$`), SHA crypt (`$5$`, `$6$`; Drepper, "Unix crypt using SHA-256 and SHA-512"), and anything else as plain text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import importlib
import re

_ITOA64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BCRYPT = re.compile(r"\$2[abxy]\$\d\d\$[./A-Za-z0-9]{53}\Z")
_MD5 = re.compile(r"\$(apr1|1)\$([^$]{0,8})[^$]*\$([./A-Za-z0-9]{22})\Z")
_SHA_CRYPT = re.compile(r"\$([56])\$(?:rounds=(\d+)\$)?([^$]{0,16})[^$]*\$([./A-Za-z0-9]+)\Z")
_MAX_ROUNDS = 1_000_000
_MAX_PASSWORD = 512
"""Most bytes of a password for the crypt formats, whose cost grows with its length, for SHA crypt with its square."""


class BadHash(ValueError):
    """A stored hash that cannot be used; the message never contains it."""


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    """User to stored hash (a later line wins) and a sentence for each ignored line, with its number and without its content."""
    users: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        user, colon, stored = line.partition(":")
        if not colon or not user:
            problems.append(f"line {number}: not user:hash")
            continue
        try:
            check(stored)
        except BadHash as error:
            problems.append(f"line {number}: {error}")
            continue
        users[user] = stored
    return users, problems


def check(stored: str) -> None:
    """BadHash if `stored` is malformed for the format that it claims to have."""
    if stored.startswith(("$2a$", "$2b$", "$2x$", "$2y$")):
        if not _BCRYPT.match(stored):
            raise BadHash("malformed bcrypt hash")
    elif stored.startswith(("$apr1$", "$1$")):
        if not _MD5.match(stored):
            raise BadHash("malformed MD5 crypt hash")
    elif stored.startswith(("$5$", "$6$")):
        match = _SHA_CRYPT.match(stored)
        if not match:
            raise BadHash("malformed SHA crypt hash")
        if match[2] and int(match[2]) > _MAX_ROUNDS:
            raise BadHash(f"SHA crypt hash of more than {_MAX_ROUNDS} rounds")
    elif stored.startswith(("{SHA}", "{SSHA}")):
        try:
            size = len(base64.b64decode(stored.partition("}")[2], validate=True))
        except (ValueError, binascii.Error):
            raise BadHash("malformed {SHA} hash") from None
        if size < 20 or (stored.startswith("{SHA}") and size != 20):
            raise BadHash("malformed {SHA} hash")


def needs_bcrypt(users: dict[str, str]) -> bool:
    """Whether any of the hashes needs the bcrypt library."""
    return any(h.startswith("$2") and _BCRYPT.match(h) for h in users.values())


def matches(password: str, stored: str) -> bool:
    """Whether `password` belongs to `stored`; compared in constant time."""
    secret = password.encode("utf-8", "surrogateescape")
    if _BCRYPT.match(stored):
        bcrypt = importlib.import_module("bcrypt")
        # bcrypt reads 72 bytes; newer libraries refuse more instead of cutting.
        stored = "$2b$" + stored[4:]
        return bool(bcrypt.checkpw(secret[:72].split(b"\0")[0], stored.encode()))
    if stored.startswith("$") and len(secret) > _MAX_PASSWORD:
        return False
    md5 = _MD5.match(stored)
    if md5:
        return hmac.compare_digest(md5_crypt(secret, md5[2].encode(), f"${md5[1]}$".encode()), md5[3])
    sha = _SHA_CRYPT.match(stored)
    if sha:
        rounds = max(1000, int(sha[2])) if sha[2] else 5000
        return hmac.compare_digest(sha_crypt(secret, sha[3].encode(), rounds, sha[1]), sha[4])
    if stored.startswith(("{SHA}", "{SSHA}")):
        raw = base64.b64decode(stored.partition("}")[2])
        return hmac.compare_digest(hashlib.sha1(secret + raw[20:], usedforsecurity=False).digest(), raw[:20])
    return hmac.compare_digest(hashlib.sha256(secret).digest(), hashlib.sha256(stored.encode("utf-8", "surrogateescape")).digest())


def _to64(data: bytes, order: list[tuple[int | None, int | None, int, int]]) -> str:
    out = []
    for a, b, c, count in order:
        value = (data[a] << 16 if a is not None else 0) | (data[b] << 8 if b is not None else 0) | data[c]
        for _ in range(count):
            out.append(_ITOA64[value & 63])
            value >>= 6
    return "".join(out)


def md5_crypt(secret: bytes, salt: bytes, magic: bytes) -> str:
    """The 22 characters of MD5 crypt (Kamp); `magic` is `$1$` or Apache's `$apr1$`."""

    def md5(data: bytes) -> bytes:
        return hashlib.md5(data, usedforsecurity=False).digest()

    inner = md5(secret + salt + secret)
    text = secret + magic + salt + (inner * (len(secret) // 16 + 1))[: len(secret)]
    bits = len(secret)
    while bits:
        text += b"\0" if bits & 1 else secret[:1]
        bits >>= 1
    digest = md5(text)
    for i in range(1000):
        text = secret if i & 1 else digest
        text += salt if i % 3 else b""
        text += secret if i % 7 else b""
        digest = md5(text + (digest if i & 1 else secret))
    order: list[tuple[int | None, int | None, int, int]] = [(i, i + 6, 5 if i == 4 else i + 12, 4) for i in range(5)]
    return _to64(digest, [*order, (None, None, 11, 2)])


_ORDER_256 = [
    (0, 10, 20),
    (21, 1, 11),
    (12, 22, 2),
    (3, 13, 23),
    (24, 4, 14),
    (15, 25, 5),
    (6, 16, 26),
    (27, 7, 17),
    (18, 28, 8),
    (9, 19, 29),
]
_ORDER_512 = [
    (0, 21, 42),
    (22, 43, 1),
    (44, 2, 23),
    (3, 24, 45),
    (25, 46, 4),
    (47, 5, 26),
    (6, 27, 48),
    (28, 49, 7),
    (50, 8, 29),
    (9, 30, 51),
    (31, 52, 10),
    (53, 11, 32),
    (12, 33, 54),
    (34, 55, 13),
    (56, 14, 35),
    (15, 36, 57),
    (37, 58, 16),
    (59, 17, 38),
    (18, 39, 60),
    (40, 61, 19),
    (62, 20, 41),
]


def sha_crypt(secret: bytes, salt: bytes, rounds: int, variant: str) -> str:
    """The text behind the last `$` of SHA crypt: variant `5` is SHA-256, `6` is SHA-512."""
    new = hashlib.sha256 if variant == "5" else hashlib.sha512
    size = new().digest_size

    def stretch(data: bytes, length: int) -> bytes:
        return (data * (length // size + 1))[:length]

    inner = new(secret + salt + secret).digest()
    text = secret + salt + stretch(inner, len(secret))
    bits = len(secret)
    while bits:
        text += inner if bits & 1 else secret
        bits >>= 1
    digest = new(text).digest()
    repeated = new()
    for _ in secret:
        repeated.update(secret)
    p = stretch(repeated.digest(), len(secret))
    s = stretch(new(salt * (16 + digest[0])).digest(), len(salt))
    for i in range(rounds):
        text = p if i & 1 else digest
        text += s if i % 3 else b""
        text += p if i % 7 else b""
        digest = new(text + (digest if i & 1 else p)).digest()
    order: list[tuple[int | None, int | None, int, int]]
    if variant == "5":
        order = [(a, b, c, 4) for a, b, c in _ORDER_256]
        return _to64(digest, [*order, (None, 31, 30, 3)])
    order = [(a, b, c, 4) for a, b, c in _ORDER_512]
    return _to64(digest, [*order, (None, None, 63, 2)])
