"""Annotations of pods: what they start, and that they cannot lead anywhere but to the pod itself."""

from __future__ import annotations

from typing import Any

import pytest

from kofagent.component.observing import Endpoint
from kofagent.receivers.receiver_creator.config import DiscoveryBlock
from kofagent.receivers.receiver_creator.hints import Refusal, hint

PREFIX = "io.opentelemetry.discovery"


def pod(annotations: dict[str, str]) -> dict[str, Any]:
    return {"name": "web", "namespace": "shop", "uid": "u1", "labels": {"a": "b"}, "annotations": annotations}


def container(config: str = "", **annotations: str) -> Endpoint:
    said = {f"{PREFIX}.logs/enabled": "true", f"{PREFIX}.logs/config": config, **annotations}
    details = {"container_name": "app", "container_id": "c", "container_image": "i", "pod": pod(said)}
    return Endpoint("k8s_observer/u1/app", "pod.container", "10.0.0.1", details)


def port(config: str = "", scraper: str = "httpcheck", **annotations: str) -> Endpoint:
    said = {f"{PREFIX}.metrics/enabled": "true", f"{PREFIX}.metrics/scraper": scraper, f"{PREFIX}.metrics/config": config}
    details = {"name": "db", "port": 5432, "transport": "TCP", "pod": pod(said | annotations)}
    return Endpoint("k8s_observer/u1/db(5432)", "port", "10.0.0.1:5432", details)


def asked(endpoint: Endpoint, storage: str | None = None, **options: Any) -> Any:
    return hint(endpoint, DiscoveryBlock(enabled=True, **options), storage)


def test_a_scraper_that_does_not_bound_answers_has_to_be_allowed() -> None:
    with pytest.raises(Refusal, match="annotations may not start 'postgresql'"):
        asked(port(scraper="postgresql"))
    assert asked(port(scraper="postgresql"), allow_receivers=["postgresql"]).type == "postgresql"


def test_files_of_the_container_are_read_with_default_options() -> None:
    found = asked(container())
    assert found.type == "filelog" and found.signal == "logs"
    assert found.options == {
        "include": ["/var/log/pods/shop_web_u1/app/*.log"],
        "include_file_path": True,
        "include_file_name": False,
        "operators": [{"id": "container-parser", "type": "container"}],
    }
    assert asked(container(), "file_storage")[1]["storage"] == "file_storage"


def test_options_of_the_annotation_come_over_them_and_are_filled() -> None:
    options = asked(
        container("include: [/etc/passwd]\ninclude_file_name: true\nattributes: {n: '`pod.name`'}\nmax_log_size: 2MiB")
    ).options
    assert options["include"] == ["/var/log/pods/shop_web_u1/app/*.log"]
    assert options["include_file_name"] is True and options["attributes"] == {"n": "web"} and options["max_log_size"] == "2MiB"


def test_what_is_said_of_a_container_or_port_goes_before_what_is_said_of_the_pod() -> None:
    assert asked(container(**{f"{PREFIX}.logs.app/enabled": "false"})) is None
    assert asked(container(**{f"{PREFIX}.logs.other/enabled": "false"})) is not None
    assert asked(port(**{f"{PREFIX}.metrics.5432/enabled": "false"})) is None
    assert asked(port(**{f"{PREFIX}.metrics.5432/scraper": "nop"}), allow_receivers=["nop"]).type == "nop"


def test_nothing_is_started_unless_it_is_asked_for_with_true() -> None:
    assert asked(container(**{f"{PREFIX}.logs/enabled": "TRUE"})) is None
    assert asked(container(**{f"{PREFIX}.logs/enabled": "true"}), ignore_receivers=["filelog"]) is None
    assert asked(container(**{f"{PREFIX}.logs/enabled": "true"}), ignore_receivers=["file_log"]) is None
    assert asked(port(), ignore_receivers=["httpcheck"]) is None
    assert asked(port(scraper="")) is None
    assert asked(Endpoint("x", "pod", "10.0.0.1", pod({f"{PREFIX}.logs/enabled": "true"}))) is None


def test_default_annotations_are_for_pods_without_their_own() -> None:
    default = {f"{PREFIX}.logs/enabled": "true"}
    silent = Endpoint("x", "pod.container", "", {"container_name": "app", "pod": pod({})})
    assert asked(silent, default_annotations=default) is not None
    assert asked(container(**{f"{PREFIX}.logs/enabled": "false"}), default_annotations=default) is None


@pytest.mark.parametrize(
    "config, sentence",
    [
        ("storage: file_storage", "storage may not be set"),
        ("delete_after_read: true", "delete_after_read may not be set"),
        ("poll_interval: 1ns", "poll_interval may not be set"),
        ("link_targets: [/]", r"link_targets\[0\] may not be set"),
        ("max_log_size: 1GiB", "at most 16 MiB"),
        ("max_log_size: lots", "is not a size"),
        ("resource: {p: 'EXPR(env(\"KOF_VM_PASSWORD\"))'}", "may not read the environment"),
        ("operators: [{type: add, field: attributes.p, value: 'EXPR(env  (\"X\"))'}]", "may not read the environment"),
        ("attributes: {p: '`env(\"KOF_VM_PASSWORD\")`'}", "there is no function 'env'"),
        ("attributes: {p: '`pod.name +`'}", "cannot be filled"),
        ("a: [", "cannot be read"),
        ("just text", "it is not a map"),
        ("a: &a [x]\nb: *a\nc: &c [*a, *a]\nd: {e: *c}", "may not be set"),
    ],
)
def test_what_a_container_may_not_ask_for_is_refused(config: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        asked(container(config))


@pytest.mark.parametrize(
    "scraper, config, sentence",
    [
        ("kubeletstats", "", "annotations may not start 'kubeletstats'"),
        ("filelog", "include: [/etc/shadow]", "annotations may not start 'filelog'"),
        ("hostmetrics", "", "may not start"),
        ("receiver_creator", "", "may not start"),
        ("nop", "endpoint: 169.254.169.254:80", "must be the address of the pod, 10.0.0.1:5432"),
        ("nop", "endpoint: 'http://10.0.0.1:5432@evil.example/'", "must be the address"),
        ("nop", "endpoint: 'http://`endpoint`.evil.example/'", "must be the address"),
        ("nop", "endpoint: 'http://evil.example/?`endpoint`'", "must be the address"),
        ("nop", "endpoint: '10.0.0.1:80'", "must be the address"),
        ("nop", "targets: [{endpoint: 'http://`endpoint`/'}, {endpoint: 'http://other:80/'}]", r"targets\[1\].endpoint must be"),
        ("nop", "other: 'http://evil.example/'", "other must be the address"),
        ("nop", "other: 169.254.169.254", "other must be the address"),
        ("nop", "other: {x: ['[fd00::1]:80']}", r"other.x\[0\] must be"),
        ("nop", "other: metadata.internal:80", "other must be the address"),
        ("nop", "auth: {authenticator: basicauth}", "auth.authenticator may not be set"),
        ("nop", "tls: {ca_file: /etc/x}", "tls.ca_file may not be set"),
        ("nop", "bearer_token_file: /var/run/secrets/token", "may not be set"),
        ("nop", "headers: {auth: {file: x}}", "may not be set"),
        ("nop", "collection_interval: 1ms", "1 s at the least"),
        ("nope", "", "unknown receiver type 'nope'"),
    ],
)
def test_what_a_scraper_may_not_be_asked_for_is_refused(scraper: str, config: str, sentence: str) -> None:
    with pytest.raises(Refusal, match=sentence):
        asked(port(config, scraper), allow_receivers=["nop", "nope"])


@pytest.mark.parametrize(
    "config",
    [
        "",
        "endpoint: '`endpoint`'",
        "endpoint: 10.0.0.1:5432",
        "endpoint: 'http://`endpoint`/nginx_status'",
        "targets: [{endpoint: 'http://`host`:`port`/x', method: GET}]",
        "username: u\npassword: p\ncollection_interval: 20s\ndatabases: [a, b]",
    ],
)
def test_what_stays_at_the_pod_is_started(config: str) -> None:
    found = asked(port(config, "nop"), allow_receivers=["nop"])
    assert found.type == "nop" and found.signal == "metrics"
