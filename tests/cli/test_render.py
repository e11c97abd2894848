"""`kofagent render`: YAML that reads back, who set what, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kofagent.cli.main import main
from kofagent.cli.render import render_yaml
from kofagent.config.errors import ConfigErrors
from kofagent.values import render_values

VALUES = """\
global: {clusterName: c1}
collectors:
  node:
    env:
      - {name: TOKEN, value: hunter2}
      - {name: KEY, valueFrom: {secretKeyRef: {name: s, key: k}}}
    run_as_root: true
    receivers: {filelog/kube: null}
    exporters: {debug: {verbosity: detailed}}
    extensions: {basicauth/mine: {client_auth: {username: u, password: hunter2}}}
    service: {pipelines: {logs: {receivers: [otlp]}}}
"""


@pytest.fixture
def values(tmp_path: Path) -> str:
    file = tmp_path / "values.yaml"
    file.write_text(VALUES)
    return str(file)


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("role", ["node", "k8scluster"])
def test_the_text_is_the_configuration(values: str, role: str, explain: bool) -> None:
    config = render_values([values], role).manifest()["config"]
    if role == "node":
        config["extensions"]["basicauth/mine"]["client_auth"]["password"] = "***"
    assert yaml.safe_load(render_yaml([values], role, explain)) == config


def test_workload_on_top(values: str) -> None:
    assert render_yaml([values], "node").splitlines()[:4] == [
        "# kof-collectors-node-exporter (daemonset): role node of KOF 0.3.0",
        "# runs as user 0",
        f"# env TOKEN: set at {values}:5",
        "# env KEY: ${secret:s/k}",
    ]


@pytest.mark.parametrize("explain", [False, True])
def test_no_secret_is_shown(values: str, explain: bool) -> None:
    text = render_yaml([values], "node", explain)
    assert "hunter2" not in text and "${secret:storage-vmuser-credentials/password}" in text


def test_a_password_in_a_url_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text("kof: {metrics: {endpoint: 'http://user:hunter2@h/write'}}\n")
    text = render_yaml([str(file)], "node")
    assert "hunter2" not in text and "http://user:***@h/write" in text
    file.write_text("kof: {metrics: {endpoint: 'http://user:${env:P}@h/write'}}\n")
    assert "http://user:${env:P}@h/write" in render_yaml([str(file)], "node")


def comments(text: str) -> dict[str, str]:
    return {line.split("  #")[0].strip(): line.split("  # ")[1] for line in text.splitlines() if "  # " in line}


def test_every_key_names_its_layer(values: str) -> None:
    text = render_yaml([values], "node", explain=True)
    said = comments(text)
    assert said["clusterName: c1"] == f"generated from global.clusterName {values}:1"
    assert said["verbosity: detailed"] == f"user {values}:9"
    assert said["insecure: true"].startswith("generated from kof.")
    assert said["passthrough: false"].startswith("default pipelines/node.yaml:")
    replaced = next(line for line in text.splitlines() if f"user {values}:11; replaces" in line)
    assert replaced.strip().startswith("receivers:") and replaced.endswith(", lost: filelog/kube")
    gone = f"#   collectors.node.receivers.filelog/kube: user {values}:8; was default pipelines/node.yaml:"
    assert text.splitlines()[-1].startswith(gone)
    for line in text.splitlines():
        key = line.strip().removeprefix("- ")
        if ": " in key.split("  #")[0] or key.split("  #")[0].endswith(":"):
            assert line.startswith("#") or "  # " in line, line


def test_wrong_values_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text("kof: {metric: {}}\n")
    with pytest.raises(ConfigErrors, match="did you mean 'metrics'"):
        render_yaml([str(file)], "node")


def test_the_command(values: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--values", values, "--role", "node"]) == 0
    rendered = tmp_path / "rendered.yaml"
    rendered.write_text(capsys.readouterr().out)
    assert main(["render", "--config", str(rendered), "--explain"]) == 0
    again = capsys.readouterr().out
    assert yaml.safe_load(again) == yaml.safe_load(rendered.read_text())
    assert f"# user {rendered}:" in again
    assert main(["render", "--values", str(tmp_path / "none.yaml"), "--role", "node"]) == 1
    assert "none.yaml: configuration: the file cannot be read" in capsys.readouterr().err


COLLECTORS = """\
opentelemetry-kube-stack:
  clusterName: c1
  resources: {}
  collectors:
    daemon:
      config:
        service:
          extensions: [k8s_observer]
          pipelines: {traces: {exporters: null}}
  defaultCRConfig:
    config: {exporters: {otlphttp/logs: null}}
"""


def test_collectors_of_newer_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "v.yaml"
    file.write_text(COLLECTORS)
    assert main(["render", "--values", str(file), "--collector", "daemon"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "# kof-collectors-daemon (daemonset): collector daemon of KOF 1.11.0"
    assert yaml.load(out, Loader=yaml.CSafeLoader) == render_values([str(file)], collector="daemon").config.plain()
    assert f"warning: {file}:3: opentelemetry-kube-stack.resources: is a key of nothing and does nothing; " in err
    assert main(["render", "--values", str(file), "--collector", "daemon", "--explain"]) == 0
    text = " ".join(capsys.readouterr().out.split()).replace(f"{tmp_path}/", "").replace("kofagent/values/defaults/kube_stack/", "")
    assert "otlphttp/logs: null # user v.yaml:11; replaces defaultCRConfig kof.yaml:23, lost: logs_endpoint, sending_queue" in text
    assert (
        "extensions: # user v.yaml:8; replaces defaultCRConfig kof.yaml:41, lost: file_storage/exporters; replaces collector"
        in text
    )
    assert (
        "- kubeletstats # preset from kubeletMetrics" in text
        and "root_path: /hostfs # preset from hostMetrics presets.yaml" in text
    )
    assert "traces.exporters: user v.yaml:9; was chart sub_chart.yaml:78; inherited from defaultCRConfig kof.yaml:48" in text


@pytest.mark.parametrize("options", [["--collector", "daemon", "--role", "node"], []])
def test_a_collector_or_a_role(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--values", "x.yaml", *options])
    assert "--collector" in capsys.readouterr().err
