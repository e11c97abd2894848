"""Values files to collector configuration: the six ways of storing KOF data, both roles, against what upstream renders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kofagent.config.errors import ConfigErrors
from kofagent.values import Rendered, render_values
from tests.values.golden import NAMES, SHARED, golden, needs_golden, write_values

ROLES = ("node", "k8scluster")


def render(tmp_path: Path, values: Any, role: str = "node", **options: Any) -> Rendered:
    return render_values([write_values(tmp_path, values)], role, **options)


def without_logins(manifest: dict[str, Any]) -> dict[str, Any]:
    config = dict(manifest["config"])
    config["extensions"] = {k: v for k, v in config["extensions"].items() if k not in ("basicauth/metrics", "basicauth/logs")}
    return {**manifest, "config": config}


@needs_golden
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", NAMES)
def test_equals_what_upstream_renders(name: str, role: str, tmp_path: Path) -> None:
    wanted = golden(name)
    rendered = render(tmp_path, wanted["values"], role)
    assert not rendered.errors
    manifest = rendered.manifest()
    assert without_logins(manifest) == wanted["rendered"][role]
    # The recordings were made without a cluster, so without the Secret: only there the logins are absent.
    logins = [k for k in manifest["config"]["extensions"] if k.startswith("basicauth/")]
    assert logins == wanted["rendered"][role]["config"]["service"].get("extensions", [])


@needs_golden
def test_defaults_equal_upstreams_values() -> None:
    for generation in ("0.1.1", "0.3.0"):
        theirs = yaml.safe_load((SHARED / "values" / f"kof-collectors-{generation}.yaml").read_text())
        ours = render_values([], "node", generation=generation).values.plain()
        assert ours["global"] == theirs["global"]
        for signal in ("metrics", "logs"):
            assert ours["kof"][signal] == theirs["kof"][signal]
        if generation == "0.3.0":
            assert ours["kof"]["traces"] == theirs["kof"]["traces"]
            assert ours["collectors"] == theirs["collectors"]


@pytest.mark.parametrize("role", ROLES)
def test_logins_are_references(role: str, tmp_path: Path) -> None:
    values = {"kof": {"metrics": {"credentials_secret_name": "m", "username_key": "u", "password_key": "p"}}}
    config = render(tmp_path, values, role).manifest()["config"]
    assert config["extensions"] == {
        "basicauth/metrics": {"client_auth": {"username": "${secret:m/u}", "password": "${secret:m/p}"}},
        "basicauth/logs": {
            "client_auth": {
                "username": "${secret:storage-vmuser-credentials/username}",
                "password": "${secret:storage-vmuser-credentials/password}",
            }
        },
    }
    assert config["service"]["extensions"] == ["basicauth/metrics", "basicauth/logs"]
    assert config["exporters"]["prometheusremotewrite"]["auth"] == {"authenticator": "basicauth/metrics"}


def test_tls_by_scheme(tmp_path: Path) -> None:
    options = {"ca_file": "/ca.pem"}
    values = {
        "kof": {
            "metrics": {"endpoint": "https://m/w", "tls_options": options},
            "logs": {"endpoint": "http://l/v1/logs", "tls_options": options},
            "traces": {"endpoint": "https://t"},
        }
    }
    exporters = render(tmp_path, values).manifest()["config"]["exporters"]
    assert exporters["prometheusremotewrite"]["tls"] == options
    assert exporters["otlphttp/logs"]["tls"] == {"insecure": True}
    assert "tls" not in exporters["otlphttp/traces"] and "auth" not in exporters["otlphttp/traces"]
    assert (
        exporters["otlphttp/traces"]["endpoint"] == "https://t"
        and exporters["otlphttp/logs"]["logs_endpoint"] == "http://l/v1/logs"
    )


def test_users_values_lie_over_what_is_generated(tmp_path: Path) -> None:
    values = {
        "collectors": {
            "node": {
                "exporters": {"prometheusremotewrite": {"tls": {"insecure": None}, "timeout": "9s"}, "otlphttp/traces": None},
                "receivers": {
                    "otlp": {"protocols": {"grpc": None}},
                    "prometheus": {"config": {"scrape_configs": [{"job_name": "mine"}]}},
                },
                "service": {"pipelines": {"traces": {"exporters": ["debug"]}}},
            }
        }
    }
    rendered = render(tmp_path, values)
    config = rendered.manifest()["config"]
    metrics = config["exporters"]["prometheusremotewrite"]
    assert metrics["tls"] == {} and metrics["timeout"] == "9s"
    assert "otlphttp/traces" not in config["exporters"]
    assert config["receivers"]["otlp"] == {"protocols": {"http": {"endpoint": "0.0.0.0:4318"}}}
    assert config["receivers"]["prometheus"]["config"]["global"]["external_labels"] == {"clusterName": "mothership"}
    jobs = rendered.config.get("receivers", "prometheus", "config", "scrape_configs")
    assert jobs.replaced.lost == ("istiod", "envoy-stats", "integrations/kubernetes/cadvisor", "integrations/kubernetes/kubelet")
    assert len(rendered.deleted) == 3


def test_what_is_no_section_of_a_collector_is_an_error_and_left_out(tmp_path: Path) -> None:
    rendered = render(tmp_path, {"collectors": {"node": {"processors": [1], "procesors": {"batch": {}}}}})
    assert [error.path[2:] for error in rendered.errors] == [("processors",), ("procesors",)]
    assert not {"processors", "procesors"} & rendered.manifest()["config"].keys()


def test_several_files_are_laid_over_each_other(tmp_path: Path) -> None:
    one = write_values(tmp_path, {"global": {"clusterName": "a", "clusterLabel": "cluster"}}, "one.yaml")
    two = write_values(tmp_path, {"global": {"clusterName": "b"}}, "two.yaml")
    rendered = render_values([one, two], "node")
    labels = rendered.config.get("receivers", "prometheus", "config", "global", "external_labels")
    assert labels.plain() == {"cluster": "b"}
    assert labels.get("cluster").origin.file == two and labels.get("cluster").origin.layer == "generated"


def test_a_configuration_over_the_values_replaces_lists_but_adds_extensions(tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text(
        "extensions: {zpages: {}}\nservice:\n  extensions: [zpages, basicauth/logs]\n  pipelines: {logs: {exporters: [debug]}}\n"
    )

    def service(values: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = render_values([write_values(tmp_path, values)], "node", over=[str(over)]).config.plain()["service"]
        return made

    assert service({})["extensions"] == ["basicauth/metrics", "basicauth/logs", "zpages"]
    assert service({})["pipelines"]["logs"] == {
        "receivers": ["otlp", "filelog/kube"],
        "processors": ["k8sattributes", "batch"],
        "exporters": ["debug"],
    }
    assert service({"kof": {"basic_auth": False}})["extensions"] == ["zpages", "basicauth/logs"]


def test_without_a_prometheus_receiver_there_is_no_label(tmp_path: Path) -> None:
    rendered = render(tmp_path, {"collectors": {"node": {"receivers": {"prometheus": None}}}})
    assert "prometheus" not in rendered.config.get("receivers").plain()


@pytest.mark.parametrize("role", ROLES)
def test_generation_0_1_1_has_fixed_pipelines(role: str, tmp_path: Path) -> None:
    config = render(tmp_path, {"global": {"clusterName": "c1"}}, role, generation="0.1.1").manifest()["config"]
    pipelines = config["service"]["pipelines"]
    assert pipelines["logs"]["exporters"] == ["otlphttp", "debug"]
    assert config["exporters"]["prometheusremotewrite"]["tls"] == {"insecure": True}
    assert config["exporters"]["otlphttp"]["logs_endpoint"].startswith("http://victoria-logs-single-server:9428/")
    if role == "node":
        assert set(config["receivers"]) == {"otlp", "filelog", "prometheus"}
        assert [j["job_name"] for j in config["receivers"]["prometheus"]["config"]["scrape_configs"]] == [
            "integrations/kubernetes/cadvisor",
            "integrations/kubernetes/kubelet",
        ]
        assert config["receivers"]["prometheus"]["config"]["global"]["external_labels"] == {"clusterName": "c1"}
        assert pipelines["traces"]["exporters"] == ["debug"]
    else:
        assert set(config["receivers"]) == {"k8s_cluster", "k8sobjects"}
        assert pipelines["metrics"]["receivers"] == ["k8s_cluster"]


def test_generation_0_1_1_sends_traces_once_there_is_an_endpoint(tmp_path: Path) -> None:
    values = {"kof": {"traces": {"endpoint": "http://j:4318"}, "metrics": {"endpoint": "https://v/w"}}}
    config = render(tmp_path, values, generation="0.1.1").manifest()["config"]
    assert config["service"]["pipelines"]["traces"]["exporters"] == ["debug", "otlphttp/traces"]
    assert config["exporters"]["otlphttp/traces"]["endpoint"] == "http://j:4318"
    assert config["exporters"]["prometheusremotewrite"]["tls"] == {"insecure": True}


def wrong(tmp_path: Path, text: str, **options: Any) -> list[str]:
    file = tmp_path / "v.yaml"
    file.write_text(text)
    try:
        found = ConfigErrors(render_values([str(file)], options.pop("role", "node"), **options).errors)
    except ConfigErrors as errors:
        found = errors
    return str(found).replace(f"{tmp_path}/", "").splitlines()


def test_typos_are_errors_with_their_line(tmp_path: Path) -> None:
    assert wrong(
        tmp_path,
        """\
globl: {}
global:
  clusterNam: x
  imageRegistry: r
kof:
  metrics: {endpont: "http://x"}
  basic_auth: maybe
  trace: {}
collectors:
  nodes: {}
  node:
    recievers: {}
    exporters: [debug]
    env: [{name: A, valueForm: {}}]
opencost: {anything: goes}
prometheus-node-exporter: {at: all}
""",
    ) == [
        "v.yaml:1: globl: unknown key; did you mean 'global'?",
        "v.yaml:3: global.clusterNam: unknown key; did you mean 'clusterName'?",
        "v.yaml:6: kof.metrics.endpont: unknown key; did you mean 'endpoint'?",
        "v.yaml:7: kof.basic_auth: must be true or false, not 'maybe'",
        "v.yaml:8: kof.trace: unknown key; did you mean 'traces'?",
        "v.yaml:10: collectors.nodes: unknown key; did you mean 'node'?",
        "v.yaml:12: collectors.node.recievers: unknown key; did you mean 'receivers'?",
        "v.yaml:13: collectors.node.exporters: must be a map, not a list; write 'key: value' lines below it",
        "v.yaml:14: collectors.node.env[0].valueForm: unknown key; did you mean 'valueFrom'?",
    ]


def test_endpoints(tmp_path: Path) -> None:
    assert wrong(tmp_path, "kof:\n  metrics:\n    endpoint: vminsert:8480/x\n") == [
        "v.yaml:3: kof.metrics.endpoint: the URL 'vminsert:8480/x' has no scheme; put http:// or https:// in front"
    ]
    assert wrong(tmp_path, "kof:\n  logs: {endpoint: ''}\n") == [
        "v.yaml:2: kof.logs.endpoint: is empty, but the pipeline 'logs' of node sends to 'otlphttp/logs'; "
        "set an endpoint, or set collectors.node.service.pipelines.logs.exporters"
    ]
    assert wrong(tmp_path, "kof:\n  logs:\n    credentials_secret_name: ''\n") == [
        "v.yaml:3: kof.logs.credentials_secret_name: is not a valid name of a Secret or of a key; "
        "correct it, or set kof.basic_auth: false for a storage without a login"
    ]


def test_a_cluster_needs_a_name(tmp_path: Path) -> None:
    assert wrong(tmp_path, "global:\n  clusterName: ''\n  clusterLabel: a-b\n") == [
        "v.yaml:2: global.clusterName: is empty; set the name of the cluster",
        "v.yaml:3: global.clusterLabel: 'a-b' is not a valid label name; use letters, digits and '_', such as clusterName",
    ]
    assert wrong(tmp_path, "global:\n  clusterName: 5\n") == [
        "v.yaml:2: global.clusterName: must be a string, not 5; put it in quotes"
    ]


def test_other_generations_and_switched_off(tmp_path: Path) -> None:
    assert wrong(tmp_path, "kof: {}\nopentelemetry-kube-stack:\n  collectors: {}\n") == [
        "v.yaml:2: opentelemetry-kube-stack: is a key of KOF 1.2 and later, whose values have collectors instead of roles; "
        "use --collector NAME"
    ]
    assert wrong(tmp_path, "collectors:\n  enabled: false\n") == [
        "v.yaml:2: collectors.enabled: the collectors are turned off; set it to true to run them"
    ]
    assert wrong(tmp_path, "", generation="0.3.1") == [
        "--generation: configuration: unknown generation '0.3.1'; did you mean '0.3.0'?"
    ]
    assert wrong(tmp_path, "", role="nodes") == ["--role: configuration: unknown role 'nodes'; did you mean 'node'?"]
    assert wrong(tmp_path, "kof: [\n")[0].startswith("v.yaml:2: configuration: not valid YAML")
