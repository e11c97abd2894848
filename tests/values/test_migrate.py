"""Values of an older KOF as those of a newer one: what is carried over, and that the comments say all that differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kofagent.cli.main import main
from kofagent.component import registry
from kofagent.config.errors import show_path
from kofagent.values import load_values, render_values
from kofagent.values.migrate import migrate
from tests.values.golden import NAMES, golden, needs_golden, write_values

STACK = "opentelemetry-kube-stack"
SECTIONS = ("receivers", "processors", "exporters", "connectors", "extensions", "service")


def migrated(tmp_path: Path, values: Any, to: str = "1.x", generation: str | None = None) -> tuple[Any, list[str]]:
    """The new values, and the lines of comments."""
    text = migrate([write_values(tmp_path, values)], to, generation)
    comments = [line.removeprefix("#").strip().replace(f"{tmp_path}/", "") for line in text.splitlines() if line.startswith("#")]
    return yaml.load(text, Loader=yaml.CSafeLoader), comments


def differing(old: Any, new: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place below which two configurations are not equal, as deep as both have it."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from (
                differing(old.get(key, ...), new.get(key, ...), (*path, key)) if old.get(key, ...) != new.get(key, ...) else ()
            )
    else:
        yield path


def said(comments: list[str], title: str) -> set[str]:
    """The places that the comments below a title name."""
    start = next(i for i, line in enumerate(comments) if line.startswith(title))
    end = next((i for i in range(start, len(comments)) if not comments[i]), len(comments))
    return {line.partition(": ")[0] for line in comments[start + 1 : end]}


WAYS = (("0.3.0", "1.11.0"), ("0.3.0", "1.9.0"), ("0.3.0", "1.2.0"), ("0.1.1", "1.11.0"), ("0.1.1", "0.3.0"))
# the pipelines of 0.1.1 are fixed and need all storages
CASES = [(name, *way) for name in NAMES for way in WAYS if (name, way[0]) != ("management-to-cloudwatch", "0.1.1")]


@needs_golden
@pytest.mark.parametrize("name, source, to", CASES)
def test_configurations_differ_in_what_the_comments_say(name: str, source: str, to: str, tmp_path: Path) -> None:
    values = golden(name)["values"]
    if source == "0.1.1":
        values = {key: value for key, value in values.items() if key != "collectors"}
    new, comments = migrated(tmp_path, values, to, source)
    old_file, new_file = write_values(tmp_path, values), write_values(tmp_path, new, "new.yaml")
    for role, collector in (("node", "daemon"), ("k8scluster", "cluster")):
        before = render_values([old_file], role, generation=source).config.plain()
        key: dict[str, Any] = {"role": role} if to == "0.3.0" else {"collector": collector}
        rendered = render_values([new_file], **key, generation=to)
        assert not rendered.errors and not [w for w in rendered.warnings if "does nothing" in w.message]
        after = rendered.to_run.plain()
        places = said(comments, f"{role} of {source} and {collector if to != '0.3.0' else role} of {to}")
        found = {
            show_path(path) for path in differing({s: before.get(s, {}) for s in SECTIONS}, {s: after.get(s, {}) for s in SECTIONS})
        }
        assert {place for place in found if not any(place == p or place.startswith(f"{p}.") for p in places)} == set()
        assert {
            p for p in places if not any(place == p or place.startswith(f"{p}.") or p.startswith(f"{place}.") for place in found)
        } == set()


@needs_golden
@pytest.mark.parametrize("name", NAMES)
def test_what_comes_out_can_run(name: str, tmp_path: Path) -> None:
    new, _ = migrated(tmp_path, golden(name)["values"])
    file = write_values(tmp_path, new, "new.yaml")
    for collector in ("cluster", "target-allocator", "daemon", "controller-k0s"):
        assert load_values([file], None, registry, None, {}, collector=collector, need_secrets=False).pipelines


OLD: dict[str, Any] = {
    "global": {"clusterName": "c1", "clusterLabel": "site"},
    "kof": {
        "metrics": {"endpoint": "https://m/w", "tls_options": {"ca_file": "/ca"}},
        "logs": {"endpoint": "http://l", "credentials_secret_name": "logs"},
        "traces": {"endpoint": "http://t/"},
        "instrumentation": {"enabled": False},
    },
    "collectors": {
        "node": {
            "env": [{"name": "A", "value": "b"}],
            "receivers": {"filelog/mine": {"include": ["/x"]}, "filelog/kube": {"start_at": "beginning"}, "otlp": None},
            "processors": {"batch": {"timeout": "3s"}, "k8sattributes": None},
            "exporters": {"debug": None, "file": {"path": "/y"}},
            "service": {
                "extensions": ["zpages"],
                "pipelines": {
                    "logs": {
                        "receivers": ["filelog/mine", "filelog/kube"],
                        "exporters": ["otlphttp/logs", "file"],
                        "processors": ["batch"],
                    },
                    "metrics": {"receivers": ["prometheus"]},
                    "traces": {"receivers": ["prometheus"], "exporters": ["otlphttp/traces"]},
                },
            },
            "extensions": {"zpages": {}},
        },
        "k8scluster": {"service": {"pipelines": {"logs": {"exporters": ["otlphttp"]}}}},
    },
    "kubeEtcd": {"enabled": False},
    "nameOverride": "x",
    "opencost": {"enabled": False},
}


def test_what_a_user_wrote_is_carried_over(tmp_path: Path) -> None:
    new, comments = migrated(tmp_path, OLD)
    stack = new[STACK]
    assert new["global"] == {"clusterName": "c1"} and new["kof"] == {"instrumentation": {"enabled": False}}
    assert new["opencost"] == {"enabled": False} and stack["kubeEtcd"] == {"enabled": False} and stack["clusterName"] == "c1"
    config = stack["defaultCRConfig"]["config"]
    assert config["exporters"]["prometheusremotewrite"] == {
        "endpoint": "https://m/w",
        "tls": {"ca_file": "/ca"},
        "auth": {"authenticator": "basicauth/metrics"},
        "external_labels": {"cluster": "c1", "site": "c1"},
    }
    assert config["exporters"]["otlphttp/logs-audit"] == config["exporters"]["otlphttp/logs"]
    assert config["exporters"]["otlphttp/traces"] == {"traces_endpoint": "http://t/v1/traces"}
    assert config["extensions"]["basicauth/logs"]["client_auth"]["username"] == "${env:KOF_LOGS_USER}"
    env = {entry["name"]: entry for entry in stack["defaultCRConfig"]["env"]}
    assert env["KOF_LOGS_PASSWORD"]["valueFrom"] == {"secretKeyRef": {"name": "logs", "key": "password"}}
    assert env["A"]["value"] == "b" and env["PKI_PATH"]["value"] == "var/lib/k0s"
    daemon = stack["collectors"]["daemon"]["config"]
    assert daemon["receivers"]["filelog/mine"] == {"include": ["/x"]} and daemon["processors"]["batch"] == {"timeout": "3s"}
    kube = daemon["receivers"]["filelog/kube"]
    assert kube["start_at"] == "beginning" and kube["operators"]  # whole, as the newer defaults have no such receiver
    assert daemon["receivers"]["otlp"] is None and daemon["exporters"] == {"debug": None, "file": {"path": "/y"}}
    pipelines = daemon["service"]["pipelines"]
    assert pipelines["logs"] == {"receivers": ["filelog/mine", "filelog/kube"], "processors": ["batch"]}
    assert pipelines["logs/default"] == pipelines["logs/audit"] == {"exporters": ["otlphttp/logs", "file"]}
    assert daemon["service"]["extensions"][-3:] == ["basicauth/metrics", "basicauth/logs", "zpages"]
    cluster = stack["collectors"]["cluster"]["config"]["service"]["pipelines"]
    assert cluster == {"logs": {"exporters": ["otlphttp/logs"]}}
    text = "\n".join(comments)
    for part in (
        "nameOverride: has no equivalent and is left out",
        "values.yaml:3: global.clusterLabel: KOF 1.x selects the label cluster; series have it and site",
        "from 1.7 on KOF stores traces in VictoriaTraces",
        "scraped_metric_suffixes: true",
    ):
        assert part in text
    assert render_values([write_values(tmp_path, new)], collector="daemon").errors == []


def test_before_1_10_logs_have_one_pipeline(tmp_path: Path) -> None:
    new, _ = migrated(tmp_path, OLD, "1.6.0")
    assert new[STACK]["collectors"]["daemon"]["config"]["service"]["pipelines"]["logs"]["exporters"] == ["otlphttp/logs", "file"]
    exporters = new[STACK]["defaultCRConfig"]["config"]["exporters"]
    assert "otlphttp/logs-audit" not in exporters and exporters["otlphttp/traces"] == {"endpoint": "http://t/"}


def test_what_cannot_be_migrated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = write_values(tmp_path, {STACK: {}}), write_values(tmp_path, {"kof": {}}, "old.yaml")
    wrong = write_values(tmp_path, {"kof": {"metrix": {}}}, "wrong.yaml")
    for arguments, message in (
        ([new, "--to", "1.x"], "the values are of KOF 1.2 or later already"),
        ([old, "--to", "2.0"], "unknown version '2.0'; use one of 0.3.0, 1.11.0, 1.x"),
        ([old, "--to", "0.3.0", "--generation", "0.3.0"], "values of 0.3.0 do not become those of 0.3.0"),
        ([wrong, "--to", "1.x"], "wrong.yaml:2: kof.metrix: unknown key; did you mean 'metrics'?"),
    ):
        assert main(["migrate", *arguments]) == 1
        assert message in capsys.readouterr().err
    assert main(["migrate", old, "--to", "1.10"]) == 0
    assert capsys.readouterr().out.startswith("# Values of KOF 1.10.0, from those of 0.3.0 by kofagent migrate.\n")
