"""Values of KOF 1.2 and later that Go would not start with, or that do nothing there: what kofagent runs, and what it says."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kofagent.cli.render import rendered_yaml
from kofagent.component import registry
from kofagent.config.errors import ConfigErrors
from kofagent.config.model import LoadedConfig
from kofagent.values import Rendered, load_values, render_values
from tests.values.golden import NEWER_NAMES, needs_newer, newer, write_values

STACK = "opentelemetry-kube-stack"


def render(tmp_path: Path, stack: Any = None, collector: str = "daemon", *, cluster: Any = None) -> Rendered:
    return render_values([write_values(tmp_path, {STACK: stack or {}, "global": cluster or {}})], collector=collector)


def texts(rendered: Rendered, tmp_path: Path) -> list[str]:
    return [str(w).replace(f"{tmp_path}/", "").replace("kofagent/values/defaults/kube_stack/", "") for w in rendered.warnings]


def running(rendered: Rendered) -> Any:
    return rendered.to_run.plain()


def test_the_clusters_name_is_put_on_what_is_collected(tmp_path: Path) -> None:
    rendered = render(tmp_path, {"clusterName": "c1"}, cluster={"clusterName": "other", "clusterNamespace": "ns"})
    assert "resource/k8sclustername" not in rendered.config.plain()["processors"]
    assert running(rendered)["processors"]["resource/k8sclustername"] == {
        "attributes": [
            {"action": "insert", "key": "k8s.cluster.name", "value": "c1"},
            {"action": "insert", "key": "k8s.cluster.namespace", "value": "ns"},
        ]
    }
    assert texts(rendered, tmp_path) == [
        "values.yaml:2: processors.resource/k8sclustername: is named by pipelines and not defined; it is made from the cluster's name, "
        "'c1'; set opentelemetry-kube-stack.clusterName to the right name, or define the processor"
    ]
    by_global = running(render(tmp_path, None, cluster={"clusterName": "other"}))
    assert by_global["processors"]["resource/k8sclustername"]["attributes"][0]["value"] == "other"
    default = running(render(tmp_path))
    assert [a["value"] for a in default["processors"]["resource/k8sclustername"]["attributes"]] == ["mothership", "kcm-system"]
    assert render(tmp_path, None, "target-allocator").warnings == []  # which has no such processor


def stack(default: Any = None, own: Any = None, collector: str = "daemon", **fields: Any) -> Any:
    processors = {"resource/k8sclustername": {"attributes": [{"action": "insert", "key": "k8s.cluster.name", "value": "c1"}]}}
    return {
        "defaultCRConfig": {"config": {"processors": processors, **(default or {})}},
        "collectors": {collector: {"config": own or {}, **fields}},
    }


def test_what_is_null_and_unnamed_is_left_out(tmp_path: Path) -> None:
    nulls = {"otlphttp/logs": None, "otlphttp/mine": None, "debug": None}
    rendered = render(tmp_path, stack({"exporters": nulls}), "target-allocator")
    assert rendered.config.plain()["exporters"]["otlphttp/logs"] is None
    exporters = running(rendered)["exporters"]
    assert not {"otlphttp/logs", "otlphttp/mine"} & exporters.keys()
    assert exporters["debug"] is None  # a pipeline names it: it runs with its defaults
    assert texts(rendered, tmp_path) == [
        "values.yaml:11: exporters.otlphttp/logs: is null and nothing names it, so it is left out, and so are otlphttp/mine"
    ]


CLOUDWATCH: dict[str, Any] = {
    "exporters": {
        "awscloudwatchlogs": {"region": "r"},
        "otlphttp/logs": None,
        "otlphttp/traces": None,
        "prometheusremotewrite": None,
    },
    "service": {"pipelines": {"logs": {"exporters": ["awscloudwatchlogs", "debug"]}, "metrics": {"exporters": ["debug"]}}},
}


def test_all_logs_go_to_cloudwatch(tmp_path: Path) -> None:
    rendered = render(tmp_path, stack({**CLOUDWATCH}))
    config = running(rendered)
    pipelines = config["service"]["pipelines"]
    assert pipelines["logs"]["exporters"] == ["routing/logs"]
    for name in ("logs/default", "logs/audit"):
        assert pipelines[name]["exporters"] == ["awscloudwatchlogs", "debug"]
    assert not {"otlphttp/logs", "prometheusremotewrite"} & config["exporters"].keys()
    assert config["exporters"]["otlphttp/traces"] is None  # named by the pipeline of traces, which has no other end
    found = texts(rendered, tmp_path)
    assert (
        len(found) == 2
        and "but pipelines logs/default, logs/audit of the defaults would send there or beside it; what comes" in found[0]
    )
    # who says where a pipeline sends is not overruled
    own = {"service": {"pipelines": {"logs/audit": {"exporters": ["otlphttp/logs-audit"]}}}}
    pipelines = running(render(tmp_path, stack({**CLOUDWATCH}, own)))["service"]["pipelines"]
    assert pipelines["logs/audit"]["exporters"] == ["otlphttp/logs-audit"]
    # nor an endpoint of one's own
    audit = {**CLOUDWATCH, "exporters": {**CLOUDWATCH["exporters"], "otlphttp/logs-audit": {"logs_endpoint": "http://mine"}}}
    assert running(render(tmp_path, stack(audit)))["service"]["pipelines"]["logs/audit"]["exporters"] == ["otlphttp/logs-audit"]


def test_extensions_that_fell_out_of_the_list_are_started(tmp_path: Path) -> None:
    default = {
        "extensions": {"basicauth/metrics": {"client_auth": {}}, "unused": {}},
        "exporters": {"prometheusremotewrite": {"auth": {"authenticator": "basicauth/metrics"}}},
    }
    rendered = render(tmp_path, stack(default, {"service": {"extensions": ["k8s_observer"]}}))
    names = running(rendered)["service"]["extensions"]
    assert names[0] == "k8s_observer" and set(names) == {
        "k8s_observer",
        "basicauth/metrics",
        "file_storage/exporters",
        "file_storage/filelogreceiver",
        "file_storage/filelogsyslogreceiver",
        "file_storage/filelogk8sauditreceiver",
        "file_storage/journaldreceiver",
    } - {"file_storage/filelogreceiver"}
    assert rendered.config.plain()["service"]["extensions"] == ["k8s_observer"]
    (found,) = texts(rendered, tmp_path)
    assert found.startswith("values.yaml:") and "lacks file_storage/exporters, basicauth/metrics, file_storage/" in found
    assert running(render(tmp_path, stack({}, {"service": {"extensions": []}}, "cluster"), "cluster"))["service"]["extensions"] == [
        "file_storage/exporters"
    ]


def test_own_logs_are_excluded(tmp_path: Path) -> None:
    logs = {"presets": {"logsCollection": {"enabled": True, "includeCollectorLogs": False}}}
    rendered = render(tmp_path, stack(None, None, "cluster", **logs), "cluster")
    exclude = "/var/log/pods/kof_kof-collectors-cluster-stats*_*"
    assert rendered.config.plain()["receivers"]["filelog"]["exclude"] == f"{exclude}/opentelemetry-kube-stack/*.log"
    assert running(rendered)["receivers"]["filelog"]["exclude"] == [f"{exclude}/*/*.log"]
    assert "names a container that does not exist" in texts(rendered, tmp_path)[0]


def test_jobs_of_the_charts_file_that_are_there_already(tmp_path: Path) -> None:
    rendered = render(tmp_path, stack(None, None, scrape_configs_file="daemon_scrape_configs.yaml"))
    jobs = [job["job_name"] for job in running(rendered)["receivers"]["prometheus"]["config"]["scrape_configs"]]
    assert len(jobs) == len(set(jobs)) and jobs[-1] == "node-exporter" and len(jobs) == 6
    assert "also has the jobs kubernetes-pods, kubelet, which the configuration has already" in texts(rendered, tmp_path)[0]


def test_the_operators_part(tmp_path: Path) -> None:
    objects = {"targetAllocator": {"prometheusCR": {"serviceMonitorSelector": {"matchLabels": {"a": "b"}}}}}
    own = {"receivers": {"otlp": {"protocols": {"grpc": None, "http": {"endpoint": None}}}}}
    rendered = render(tmp_path, stack(None, own, "target-allocator", **objects), "target-allocator")
    receivers = running(rendered)["receivers"]
    assert receivers["prometheus"]["monitors"] == {
        "enabled": True,
        "scrape_interval": "30s",
        "service_monitor_selector": {"matchLabels": {"a": "b"}},
    }
    assert receivers["prometheus"]["allocation"] == {"strategy": "per-node"}
    assert receivers["otlp"]["protocols"] == {"grpc": {"endpoint": "0.0.0.0:4317"}, "http": {"endpoint": None}}
    assert "monitors" not in rendered.config.plain()["receivers"]["prometheus"] and rendered.warnings == []
    assert "monitors" not in running(render(tmp_path))["receivers"]["prometheus"]


def test_sections_beside_config(tmp_path: Path) -> None:
    beside: dict[str, Any] = {
        "service": {"pipelines": {"metrics": {"receivers": ["otlp"]}}},
        "receivers": {"otlp": {"include_metadata": True}},
    }
    rendered = render(tmp_path, stack(None, None, **beside))
    metrics = running(rendered)["service"]["pipelines"]["metrics"]["receivers"]
    assert metrics == ["otlp", "hostmetrics", "kubeletstats"]  # presets see it
    assert rendered.config.plain()["service"]["pipelines"]["metrics"]["receivers"] == ["prometheus", *metrics]
    assert running(rendered)["receivers"]["otlp"]["include_metadata"] is True
    assert (
        all("does nothing beside config in the chart" in text for text in texts(rendered, tmp_path)) and len(rendered.warnings) == 2
    )


def test_directories_that_a_pod_would_have(tmp_path: Path) -> None:
    default = {"extensions": {"file_storage/mine": {"directory": "/x", "create_directory": False}, "file_storage/none": None}}
    extensions = running(render(tmp_path, stack(default), "cluster"))["extensions"]
    assert extensions["file_storage/mine"]["create_directory"] is False and "file_storage/none" not in extensions
    assert extensions["file_storage/exporters"]["create_directory"] is True


_KEYS = st.sampled_from(
    ["receivers", "processors", "exporters", "extensions", "service", "pipelines", "logs", "otlp", "prometheus", "debug"]
)
_LEAVES = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["", "x", "otlp", "debug"])
_ANY = st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=6)


@given(
    own=_ANY, default=_ANY, fields=st.dictionaries(st.sampled_from(["presets", "env", "targetAllocator", "securityContext"]), _ANY)
)
def test_any_values_give_a_configuration_or_errors(
    own: Any, default: Any, fields: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    values = {STACK: {"defaultCRConfig": {"config": default}, "collectors": {"daemon": {"config": own, **fields}}}}
    file = write_values(tmp_path_factory.getbasetemp(), values, "any.yaml")
    with contextlib.suppress(ConfigErrors):
        rendered_yaml(render_values([file], collector="daemon"), explain=True, as_run=True)
    with contextlib.suppress(ConfigErrors):
        load_values([file], None, registry, None, {}, collector="daemon", need_secrets=False)


def load(tmp_path: Path, values: Any, collector: str, environ: dict[str, str], version: str | None = None) -> LoadedConfig:
    file = write_values(tmp_path, values)
    return load_values([file], None, registry, version, environ, collector=collector, need_secrets=False)


@needs_newer
@pytest.mark.parametrize("name", NEWER_NAMES)
def test_every_collector_of_every_recipe_can_run(name: str, tmp_path: Path) -> None:
    wanted = newer(name)
    for collector, theirs in wanted["rendered"].items():
        environ = {"OTEL_K8S_NODE_IP": "10.0.0.1", "OTEL_K8S_NODE_NAME": "n1"}
        config = load(tmp_path, wanted["values"], collector, environ, name.split("-", maxsplit=1)[0])
        assert config.name == theirs["name"] and config.mode == theirs["mode"] and config.keep_retrying
        beside = {"metrics/target-allocator"} if collector == "cluster" else set()  # tests/values/test_without_node.py
        assert set(config.pipelines) == set(theirs["config"]["service"]["pipelines"]) | beside
        assert all("is not used by a pipeline" not in warning.message for warning in config.warnings)


def test_problems_have_the_path_of_the_users_file(tmp_path: Path) -> None:
    values = {
        STACK: stack({"exporters": {"debug": {"verbosity": "loud"}}}, {"receivers": {"otlp": {"protocls": {}}}}, "target-allocator")
    }
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path, {"kof-child": {"values": {"collectors": values}}}, "target-allocator", {})
    found = str(caught.value).replace(f"{tmp_path}/", "").splitlines()
    start = f"kof-child.values.collectors.{STACK}"
    assert found[0].startswith(f"values.yaml:15: {start}.defaultCRConfig.config.exporters.debug.verbosity: ")
    assert found[1].startswith(f"values.yaml:21: {start}.collectors.target-allocator.config.receivers.otlp.protocls: unknown key")


def test_environment_of_a_pod(tmp_path: Path) -> None:
    login = {"name": "KOF_VM_USER", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}
    default = {
        "exporters": {"debug": {}},
        "extensions": {"basicauth/x": {"client_auth": {"username": "${env:KOF_VM_USER}", "password": "p"}}},
    }
    default |= {"service": {"extensions": ["file_storage/exporters", "basicauth/x"]}}
    values = {STACK: stack(default, None, "target-allocator", env=[login])}
    config = load(tmp_path, values, "target-allocator", {"OTEL_K8S_NODE_NAME": "n1"})
    assert config.environment == {"K8S_NODE_NAME": "n1"}
    assert sum("KOF_VM_USER" in str(warning) for warning in config.warnings) == 1
    config = load(tmp_path, values, "target-allocator", {"K8S_NODE_NAME": "n2", "KOF_VM_USER": "u"})
    assert config.environment == {"OTEL_K8S_NODE_NAME": "n2"} and not any("KOF_VM_USER" in str(w) for w in config.warnings)
