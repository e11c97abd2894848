from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from kofagent.prometheus.config import GlobalConfig, ScrapeConfig, format_duration
from kofagent.prometheus.discovery.config import FileSdConfig
from kofagent.prometheus.discovery.file import FileDiscovery
from kofagent.prometheus.discovery.group import Group
from kofagent.prometheus.target import Target, build_targets, finisher, resource_attributes, sample_rules, target_rules


def job(**options: Any) -> ScrapeConfig:
    config = ScrapeConfig.model_validate({"job_name": "j", **options})
    config.inherit(GlobalConfig())
    return config


def targets(config: ScrapeConfig, *found: dict[str, str], **labels: str) -> list[Target]:
    return build_targets(config, target_rules(config), [Group("0", found, labels)])[0]


def test_labels_of_a_target() -> None:
    (found,) = targets(
        job(params={"m": ["a", "b"]}), {"__address__": "h:1", "__meta_x": "m", "zone": "own"}, zone="group", __tmp="t"
    )
    assert found.labels == {"job": "j", "instance": "h:1", "zone": "own"}
    assert found.discovered == {
        "__address__": "h:1",
        "__meta_x": "m",
        "zone": "own",
        "__tmp": "t",
        "job": "j",
        "__scheme__": "http",
        "__metrics_path__": "/metrics",
        "__scrape_interval__": "1m",
        "__scrape_timeout__": "10s",
        "__param_m": "a",
    }
    assert found.url == "http://h:1/metrics?m=a&m=b"


def test_relabelling_decides_url_and_times() -> None:
    def to(label: str, value: str) -> dict[str, str]:
        return {"target_label": label, "replacement": value}

    rules = [
        to("__scheme__", "https"),
        to("__metrics_path__", "x y?z"),
        to("__param_q", "a b&c"),
        to("__scrape_interval__", "90s"),
        to("__scrape_timeout__", "5s"),
        to("__address__", "other:9"),
        to("instance", "named"),
        to("job", "renamed"),
    ]
    (found,) = targets(job(relabel_configs=rules), {"__address__": "h:1"})
    assert found.url == "https://other:9/x%20y%3Fz?q=a+b%26c"
    assert (found.interval, found.timeout, found.labels) == (90.0, 5.0, {"instance": "named", "job": "renamed"})


def test_equal_targets_are_one() -> None:
    config = job(relabel_configs=[{"target_label": "__address__", "replacement": "kubernetes.default.svc.cluster.local:443"}])
    assert len(targets(config, {"__address__": "10.0.0.1:6443"}, {"__address__": "10.0.0.2:6443"})) == 1


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"action": "labeldrop", "regex": "__address__"}, "no address"),
        ({"target_label": "__address__", "replacement": "h/x"}, "host and port"),
        ({"target_label": "__scrape_interval__", "replacement": "soon"}, "not a duration"),
        ({"target_label": "__scheme__", "replacement": "ftp"}, "scheme"),
        ({"target_label": "__scrape_timeout__", "replacement": "2m"}, "greater"),
    ],
)
def test_targets_that_cannot_be(rule: dict[str, Any], says: str) -> None:
    config = job(relabel_configs=[rule])
    found, dropped, problems = build_targets(config, target_rules(config), [Group("0", [{"__address__": "h:1"}])])
    assert not found and not dropped and says in problems[0]


def test_a_label_that_is_not_unicode_is_one_problem_and_others_go_on() -> None:
    config = job(relabel_configs=[{"action": "hashmod", "modulus": 3, "source_labels": ["zone"], "target_label": "shard"}])
    found, _, problems = build_targets(
        config, target_rules(config), [Group("0", [{"__address__": "h:1", "zone": "\ud800"}, {"__address__": "h:2"}])]
    )
    assert [t.labels["instance"] for t in found] == ["h:2"] and len(problems) == 1


def test_the_moment_of_a_target_is_its_own_and_stays() -> None:
    many = targets(job(), *[{"__address__": f"h:{i}"} for i in range(200)])
    moments = sorted(t.offset(1000.0) for t in many)
    assert 0 <= moments[0] < 6 and 54 < moments[-1] < 60
    assert [t.offset(1000.0) for t in targets(job(), {"__address__": "h:5"})] == [
        t.offset(1000.0) for t in many if ":5" in t.url[:11]
    ][:1]
    one = many[0]
    assert abs((1000.0 + one.offset(1000.0)) % 60 - (1234.5 + one.offset(1234.5)) % 60) < 1e-6


def test_labels_of_samples() -> None:
    config = job(honor_labels=True, metric_relabel_configs=[{"action": "drop", "source_labels": ["__name__"], "regex": "x_.*"}])
    finish = finisher(config, sample_rules(config), {"job": "j", "instance": "i"}, {"c": "1", "job": "never"})
    assert finish((("__name__", "a"), ("job", "mine"))) == (("__name__", "a"), ("c", "1"), ("instance", "i"), ("job", "mine"))
    assert finish((("__name__", "x_1"),)) is None
    config = job(metric_relabel_configs=[{"action": "labeldrop", "regex": "__name__"}])
    with pytest.raises(ValueError, match="no name"):
        finisher(config, sample_rules(config), {"job": "j"}, {})((("__name__", "a"),))


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        ("10.0.0.1:9100", {"server.address": "10.0.0.1", "server.port": "9100"}),
        ("localhost:1", {"server.port": "1"}),
        ("[2001:db8::1]:9", {"server.address": "2001:db8::1", "server.port": "9"}),
        ("127.0.0.1:9", {"server.port": "9"}),
        ("host", {"server.address": "host"}),
        ("0.0.0.0:1", {"server.port": "1"}),
    ],
)
def test_resources(instance: str, expected: dict[str, str]) -> None:
    found = resource_attributes(
        "j",
        instance,
        {
            "__scheme__": "http",
            "__meta_kubernetes_pod_name": "p",
            "__meta_kubernetes_pod_controller_kind": "DaemonSet",
            "__meta_kubernetes_pod_controller_name": "d",
        },
    )
    assert found == {
        "service.name": "j",
        "service.instance.id": instance,
        "url.scheme": "http",
        "k8s.pod.name": "p",
        "k8s.daemonset.name": "d",
        **expected,
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.1, "100ms"), (90, "1m30s"), (3600, "1h"), (5400, "1h30m"), (86400, "1d"), (604800, "1w"), (1.5, "1s500ms")],
)
def test_durations_are_written_as_prometheus_writes_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_files_change_break_and_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    discovery = FileDiscovery(FileSdConfig(files=[str(tmp_path / "*.yml"), str(tmp_path / "b.json")]), logging.getLogger("t"))
    assert discovery.changes() == []
    (tmp_path / "a.yml").write_text("- targets: [h:1, h:2]\n  labels: {n: 5}\n- targets: [h:3]\n")
    (tmp_path / "b.json").write_text('[{"targets": ["j:1"]}]')
    groups = {group.source: group for group in discovery.changes()}
    first = groups[f"{tmp_path}/a.yml:0"]
    assert [t["__address__"] for t in first.targets] == ["h:1", "h:2"] and first.labels == {
        "n": "5",
        "__meta_filepath": f"{tmp_path}/a.yml",
    }
    assert len(groups) == 3 and discovery.changes() == []
    for broken in (
        "- targets: {",
        "- [x]",
        "targets: [x]",
        "- targets: [x]\n  label: {}",
        "- targets: [[x]]",
        "- targets: x",
        "[" * 5000,
    ):
        (tmp_path / "a.yml").write_text(broken)
        assert discovery.changes() == [] and "the previous targets stay" in caplog.text
        caplog.clear()
    (tmp_path / "a.yml").write_text("- targets: [h:9]\n")
    assert [(g.source[-1], len(g.targets)) for g in discovery.changes()] == [("0", 1), ("1", 0)]
    for half in ("a.yml", "b.json"):
        (tmp_path / half).write_text('[{"targets": ["h:1"], "labels": {"n": "\\ud800"}}]')
        assert discovery.changes()[0].labels["n"] == "\ufffd"
    (tmp_path / "b.json").unlink()
    assert [(g.source, len(g.targets)) for g in discovery.changes()] == [(f"{tmp_path}/b.json:0", 0)]
