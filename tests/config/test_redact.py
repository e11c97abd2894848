"""No secret is shown: found by type in every option of every component, in URLs, in errors; and what is none stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from kofagent.component import registry
from kofagent.config.base import PARAMETERS, spellings
from kofagent.config.emit import to_yaml
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import load_config, read_config
from kofagent.config.model import ServiceConfig
from kofagent.config.redact import MASK, without_secrets, without_sent
from kofagent.config.secrets import redacted
from kofagent.config.tree import Node
from kofagent.config.typed_tree import annotated, is_block, item_of

CANARY = "CANARY-7f3a"


def filled(kind: Any, name: str = "", said: tuple[Any, ...] = (), depth: int = 0) -> Iterator[Any]:
    """Values of a type with a canary wherever a secret can be, one for each alternative of a union."""
    for each, around in annotated(kind, said):
        if depth > 12:
            return
        if PARAMETERS in around:
            yield {"api_key": CANARY if item_of(each, "x") is str else [CANARY], "module": "plain-module"}
        elif isinstance(each, type) and issubclass(each, SecretStr):
            yield CANARY
        elif is_block(each):
            yield block(each, depth + 1)
        elif each is str and ("url" in name or "endpoint" in name):
            yield f"https://{CANARY}@host/p?token={CANARY}"
            yield f"https://user:{CANARY}@host/p?format=plain-format&x={CANARY}"
        elif (item := item_of(each, "k")) is not None:
            yield from ({"X-Secret": value} for value in filled(item, name, (), depth + 1))
        elif (item := item_of(each, 0)) is not None:
            yield from ([value] for value in filled(item, name, (), depth + 1))


def block(model: type[BaseModel], depth: int = 0) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        for index, value in enumerate(filled(field.annotation, name, tuple(field.metadata), depth)):
            names = spellings(name, field)
            out.setdefault(names[min(index, len(names) - 1)], value)
    return out


COMPONENTS = [(kind, type) for kind, types in registry.TYPES.items() for type in types]


def test_the_canaries_are_in_what_the_tests_use() -> None:
    counts = {type: yaml.safe_dump(block(registry.load(kind, type).Config)).count(CANARY) for kind, type in COMPONENTS}
    assert counts["prometheus"] > 25 and counts["otlphttp"] > 8 and counts["basicauth"] == 2 and counts["nop"] == 0


@pytest.mark.parametrize("kind, type", COMPONENTS)
def test_render_and_errors_hold_no_secret_of_any_component(kind: str, type: str) -> None:
    text = yaml.safe_dump({kind: {type: block(registry.load(kind, type).Config)}})
    shown = to_yaml(redacted(read_config([f"yaml:{text}"]), registry))
    assert CANARY not in shown
    assert not [value for value in ("plain-module",) if (value in text) != (value in shown)]
    with pytest.raises(ConfigErrors) as errors:
        load_config([f"yaml:{text}"], registry)
    assert CANARY not in str(errors.value)


def test_render_hides_the_secrets_of_the_service_and_of_components_it_does_not_know() -> None:
    text = yaml.safe_dump(
        {
            "service": block(ServiceConfig),
            "exporters": {"strange": {"password": CANARY, "list": [{"headers": {"X-Key": CANARY, "X-Scope-OrgID": "tenant"}}]}},
        }
    )
    shown = to_yaml(redacted(read_config([f"yaml:{text}"]), registry))
    assert CANARY in text and CANARY not in shown
    assert "X-Scope-OrgID: tenant" in shown


SHOWN = """
exporters:
  otlphttp:
    endpoint: http://h/p?extra_label=a&_stream_fields=b
    headers: {X-Scope-OrgID: a, VL-Stream-Fields: b, Content-Type: c, X-Key: "${env:KEY}"}
extensions:
  headers_setter: {headers: [{key: X-Scope-OrgID, value: t}, {key: X-Other, value: t}]}
"""


def test_render_shows_what_is_no_secret() -> None:
    tree = read_config([f"yaml:{SHOWN}"])
    expected = tree.plain()
    expected["extensions"]["headers_setter"]["headers"][1]["value"] = MASK
    assert redacted(tree, registry).plain() == expected
    assert tree.plain() != expected  # the tree itself is as it was


@pytest.mark.parametrize(
    "options, path",
    [
        ({"endpoint": "http://h", "headers": {"X-Key": MASK}}, "exporters.otlphttp.headers.X-Key"),
        ({"endpoint": f"http://u:{MASK}@h"}, "exporters.otlphttp.endpoint"),
        ({"endpoint": f"http://h/?token={MASK}"}, "exporters.otlphttp.endpoint"),
        ({"endpoint": "http://h", "tls": {"key_pem": MASK}}, "exporters.otlphttp.tls.key_pem"),
    ],
)
def test_the_mask_in_place_of_a_secret_is_refused(options: dict[str, Any], path: str) -> None:
    pipelines = {"logs": {"receivers": ["otlp"], "exporters": ["otlphttp"]}}
    config = {
        "receivers": {"otlp": {"protocols": {"http": None}}},
        "exporters": {"otlphttp": options},
        "service": {"pipelines": pipelines},
    }
    with pytest.raises(ConfigErrors) as errors:
        load_config([f"yaml:{yaml.safe_dump(config)}"], registry)
    assert f"{path}: holds {MASK}, which `kofagent render` shows in place of a secret" in str(errors.value)


URLS = {
    "http://u:p@h/x": "http://u:***@h/x",
    "http://token@h/x": "http://***@h/x",
    "http://u:p@q@h": "http://u:***@h",
    "u:p@h:1": "u:***@h:1",
    "http://u:${env:P}@h": "http://u:${env:P}@h",
    "http://h/?a=b&match[]=c;d=e#f": "http://h/?a=***&match[]=c;d=***#f",
    "http://h/?a=${env:A}&b": "http://h/?a=${env:A}&b",
    "see http://h?k=v, and 'http://h?k=v' (why?) a=b": "see http://h?k=*** and 'http://h?k=***' (why?) a=b",
    "someone@example.org": "someone@example.org",
    "image@sha256:0123": "image@sha256:0123",
    "no secret here": "no secret here",
}


@pytest.mark.parametrize("text", URLS)
def test_urls(text: str) -> None:
    assert without_secrets(text) == URLS[text]
    assert without_secrets(URLS[text]) == URLS[text]


@given(st.text(st.characters(exclude_characters="/ \t\n\r?#'\"<>$", exclude_categories=["Z", "C"]), min_size=6, max_size=20))
def test_no_password_is_too_strange(password: str) -> None:
    assert password not in without_secrets(f"http://u:{password}@h/") or password in "http://u:***@h/"


def test_answers_of_backends_lose_what_we_sent() -> None:
    sent = {
        "Authorization": "Basic dXNlcjpzZWNyZXQ=",
        "X-Key": "k3y-value",
        "X-Scope-OrgID": "tenant",
        "X-Empty": "",
        "X-Short": "a",
    }
    said = b"\x0a\x20 dXNlcjpzZWNyZXQ= user:secret secret k3y-value tenant a"
    without = without_sent(said, sent)
    assert len(without) == len(said)
    assert without == b"\x0a\x20 **************** *********** ****** ********* tenant a"


@pytest.mark.parametrize(
    ("url", "said", "without"),
    [
        (
            "http://me:p%40ss-word@h/x",
            b"Basic bWU6cEBzcy13b3Jk p%40ss-word p@ss-word",
            b"Basic ******************** *********** *********",
        ),
        ("http://h/x?token=se%2Fcret&format=json", b"/x?token=se%2Fcret se/cret json", b"/x?token=********** ********* json"),
        ("http://h/x", b"x", b"x"),
        ("http://[h@?token=a", b"a", b"a"),
    ],
)
def test_what_a_server_repeats_of_its_url_is_taken_out(url: str, said: bytes, without: bytes) -> None:
    shown = without_sent(said, {}, url)
    assert shown.replace(b"*", b"") == without.replace(b"*", b"")
    assert len(shown) == len(said)


def test_a_text_where_a_map_belongs_is_not_repeated() -> None:
    text = yaml.safe_dump(
        {"receivers": {"prometheus": {"config": {"scrape_configs": [{"job_name": "j", "authorization": CANARY}]}}}}
    )
    with pytest.raises(ConfigErrors, match="authorization: must be a map, not a text") as errors:
        load_config([f"yaml:{text}"], registry)
    assert CANARY not in str(errors.value)
    assert isinstance(Node({}).value, dict)
