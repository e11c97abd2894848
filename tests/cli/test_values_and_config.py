"""`--values` with `--config`: the configuration is laid over what the values make, as the chart's pods have it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kofagent.cli.main import main


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    values, over = tmp_path / "values.yaml", tmp_path / "over.yaml"
    values.write_text("kof: {basic_auth: false}\n")
    over.write_text(
        "service: {telemetry: {metrics: {address: ':8888'}}}\n"
        "receivers: {prometheus: {api_server: {server_config: {endpoint: ':9090'}}}}\n"
    )
    return [f"--values={values}", "--role=node", f"--config={over}"]


def test_render(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", *files[:2]]) == 0
    without = yaml.safe_load(capsys.readouterr().out)
    assert main(["render", *files]) == 0
    rendered = yaml.safe_load(capsys.readouterr().out)
    assert rendered["service"].pop("telemetry") == {"metrics": {"address": ":8888"}}
    assert rendered["receivers"]["prometheus"]["api_server"]["server_config"].pop("endpoint") == ":9090"
    assert without["receivers"]["prometheus"]["api_server"]["server_config"].pop("endpoint") == "localhost:9090"
    assert rendered == without


def test_explain_names_the_file(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "--explain", *files]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if ":9090" in line)
    assert "over.yaml:2" in line


def test_validate_names_the_file_of_an_error(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "over.yaml").write_text("exporters:\n  otlphttp/logs: {endpoin: x}\n")
    assert main(["validate", *files]) == 1
    said = capsys.readouterr().err
    assert "over.yaml:2" in said
    assert "endpoin" in said


def test_neither_is_a_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run"])
    assert ended.value.code == 2
    assert "--values FILE" in capsys.readouterr().err
