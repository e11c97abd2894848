"""`kofagent validate`: one text for what is right, what is odd and what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from kofagent.cli.main import main
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
        "valid: configuration: 1 pipelines (logs)",
    ]
    file.write_text(GOOD.replace("exporters: [out]", "exporters: [out, x]").replace("  in:", "  in: {cuont: 1}"))
    good, text = validate_text(fake, config=[str(file)], environ={})
    assert not good
    assert text.splitlines()[-1] == "2 errors" and f"{file}:2: receivers.in.cuont: unknown key; did you mean 'count'?" in text


def test_values_for_both_roles(tmp_path: Path) -> None:
    file = tmp_path / "v.yaml"
    file.write_text("kof: {basic_auth: false}\n")
    good, text = validate_text(AllKnown(), values=[str(file)], environ={})
    assert good
    assert text.splitlines() == [
        "valid: kof-collectors-node-exporter: 3 pipelines (logs, metrics, traces)",
        "valid: kof-collectors-k8s-cluster: 2 pipelines (logs, metrics)",
    ]
    file.write_text("kof: {basic_auth: false, metrics: {endpoint: x}}\n")
    good, text = validate_text(AllKnown(), values=[str(file)], environ={})
    assert not good and text.endswith("\n1 error")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_VMUSER_CREDENTIALS_USERNAME", "u")
    monkeypatch.setenv("STORAGE_VMUSER_CREDENTIALS_PASSWORD", "hunter2")
    file = tmp_path / "v.yaml"
    file.write_text("global: {clusterName: c1}\n")
    for generation in ("0.1.1", "0.3.0"):
        for role in ("node", "k8scluster"):
            code = main(["validate", "--values", str(file), "--role", role, "--generation", generation])
            said = capsys.readouterr()
            assert code == 0, said.err
            assert said.out.splitlines()[-1].startswith("valid: kof-collectors-") and "hunter2" not in said.out
    monkeypatch.delenv("STORAGE_VMUSER_CREDENTIALS_PASSWORD")
    for more, code in (([], 1), (["--without-secrets"], 0)):
        assert main(["validate", "--values", str(file), "--role", "node", *more]) == code
        assert ("STORAGE_VMUSER_CREDENTIALS_PASSWORD" in capsys.readouterr().err) == (code == 1)
    monkeypatch.setenv("STORAGE_VMUSER_CREDENTIALS_PASSWORD", "hunter2")
    file.write_text(
        "collectors:\n  node:\n    exporters:\n      debug: {verbose: detailed}\n      prometheusremotewrite: {timeout: soon}\n"
    )
    assert main(["validate", "--values", str(file), "--role", "node"]) == 1
    found = capsys.readouterr().err.splitlines()
    assert f"{file}:4: collectors.node.exporters.debug.verbose: unknown key; did you mean 'verbosity'?" in found
    wanted = f"{file}:5: collectors.node.exporters.prometheusremotewrite.timeout: 'soon' is not a duration"
    assert any(line.startswith(wanted) for line in found)
    assert found[-1] == "2 errors"
