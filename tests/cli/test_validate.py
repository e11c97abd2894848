"""`kofagent validate`: one text for what is right, what is odd and what is wrong."""

from __future__ import annotations

from pathlib import Path

from kofagent.cli.validate import validate_text
from tests.config import fake
from tests.config.test_load import GOOD
from tests.values.test_load import AllKnown


def test_collector_configuration(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(GOOD + "extensions: {login: }\n")
    good, text = validate_text(fake, config=[str(file)], environ={})
    assert good
    assert text.splitlines() == [
        f"warning: {file}:8: extensions.login: is not used by service.extensions; name it there or remove it",
        "valid: configuration: 1 pipelines (logs)"]
    file.write_text(GOOD.replace("exporters: [out]", "exporters: [out, x]").replace("  in:", "  in: {cuont: 1}"))
    good, text = validate_text(fake, config=[str(file)], environ={})
    assert not good
    assert text.splitlines()[-1] == "2 errors" and f"{file}:2: receivers.in.cuont: unknown key; did you mean 'count'?" in text


def test_values_for_both_roles(tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text("kof: {basic_auth: false}\n")
    good, text = validate_text(AllKnown(), values=[str(file)], environ={})
    assert good
    assert text.splitlines() == ["valid: kof-collectors-node-exporter: 3 pipelines (logs, metrics, traces)",
                                 "valid: kof-collectors-k8s-cluster: 2 pipelines (logs, metrics)"]
    file.write_text("kof: {basic_auth: false, metrics: {endpoint: x}}\n")
    good, text = validate_text(AllKnown(), values=[str(file)], environ={})
    assert not good and text.endswith("\n1 error")
