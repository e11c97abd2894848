"""Values to a configuration that could run: environment and Secrets, all that is missing at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict

from kofagent.config.base import ComponentConfig
from kofagent.config.blocks import AuthBlock
from kofagent.config.errors import ConfigErrors
from kofagent.config.model import LoadedConfig
from kofagent.values import load_values
from tests.config.fake import Loaded
from tests.values.golden import NAMES, golden, needs_golden, write_values


class Anything(ComponentConfig):
    model_config = ConfigDict(extra="allow")
    auth: AuthBlock | None = None


class AllKnown:
    """A registry that knows every type and takes every option: these tests look at values only."""

    TYPES: dict[str, tuple[str, ...]] = {}
    ALIASES: dict[str, dict[str, str]] = {}

    def type_of(self, id: str) -> str:
        return id.split("/", 1)[0]

    def resolve(self, kind: str, type: str) -> str | None:
        return type

    def load(self, kind: str, type: str) -> Any:
        return Loaded(Anything)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return tmp_path / "secrets"


def put(secrets: Path, name: str, **keys: str) -> None:
    (secrets / name).mkdir(parents=True)
    for key, value in keys.items():
        (secrets / name / key).write_text(value)


def load(tmp_path: Path, values: Any, role: str = "node", **environ: str) -> LoadedConfig:
    environ.setdefault("KOFAGENT_SECRETS_DIR", str(tmp_path / "secrets"))
    return load_values([write_values(tmp_path, values)], role, AllKnown(), environ=environ)


def errors(tmp_path: Path, values: Any, role: str = "node", **environ: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path, values, role, **environ)
    return str(caught.value).replace(str(tmp_path), "").splitlines()


AWS = [
    {"name": name, "valueFrom": {"secretKeyRef": {"name": "cloudwatch-credentials", "key": name}}}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
]


@needs_golden
@pytest.mark.parametrize("role", ["node", "k8scluster"])
@pytest.mark.parametrize("name", NAMES)
def test_every_way_of_storing_loads(name: str, role: str, tmp_path: Path, secrets: Path) -> None:
    put(secrets, "storage-vmuser-credentials", username="u", password="p$$p")
    put(secrets, "cloudwatch-credentials", AWS_ACCESS_KEY_ID="AK", AWS_SECRET_ACCESS_KEY="SK")
    values = golden(name)["values"]
    config = load(tmp_path, values, role)
    assert config.name == golden(name)["rendered"][role]["name"] and config.keep_retrying
    for options in config.components["receivers"].values():
        if options.__class__.__module__.endswith("filelog.config"):
            assert getattr(options, "link_targets") == ["/var/lib/docker/containers"]  # noqa: B009 - only filelog has it
    assert set(config.pipelines) == set(golden(name)["rendered"][role]["config"]["service"]["pipelines"])
    if values.get("kof", {}).get("basic_auth", True):
        login: Any = config.components["extensions"]["basicauth/metrics"]
        assert login.client_auth == {"username": "u", "password": "p$$p"}
        assert "p$$p" not in str(config.effective)
    if name == "management-to-cloudwatch":
        assert config.environment == {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}
        assert "SK" not in repr(config)


def test_a_missing_secret_is_named_with_its_places(tmp_path: Path) -> None:
    found = errors(tmp_path, {"kof": {"metrics": {"credentials_secret_name": "mine"}}})
    assert len(found) == 4
    assert found[0] == (
        "/values.yaml:3: extensions.basicauth/metrics.client_auth.username: the Secret 'mine' with key 'username' was not found; "
        "looked for /secrets/mine/username and the environment variable MINE_USERNAME; mount the Secret there "
        "(KOFAGENT_SECRETS_DIR moves the "
        "directory), or set the variable"
    )


def test_secrets_from_the_environment(tmp_path: Path) -> None:
    config: Any = load(tmp_path, {}, STORAGE_VMUSER_CREDENTIALS_USERNAME="u", STORAGE_VMUSER_CREDENTIALS_PASSWORD="007")
    assert config.components["extensions"]["basicauth/logs"].client_auth == {"username": "u", "password": "007"}


def test_environment_entries(tmp_path: Path, secrets: Path) -> None:
    put(secrets, "cloudwatch-credentials", AWS_ACCESS_KEY_ID="AK")
    env = [
        *AWS,
        {"name": "PLAIN", "value": "v"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "MAYBE", "valueFrom": {"secretKeyRef": {"name": "x", "key": "k", "optional": True}}},
    ]
    values = {
        "kof": {"basic_auth": False},
        "collectors": {"node": {"env": env, "exporters": {"debug": {"note": "${env:PLAIN}-${env:AWS_ACCESS_KEY_ID}"}}}},
    }
    config: Any = load(tmp_path, values, AWS_SECRET_ACCESS_KEY="from the pod", NODE="n1")
    assert config.environment == {"AWS_ACCESS_KEY_ID": "AK", "PLAIN": "v"}
    assert config.components["exporters"]["debug"].note == "v-AK"
    found = errors(tmp_path, values)
    assert len(found) == 2
    assert "collectors.node.env[1]: the Secret 'cloudwatch-credentials' with key 'AWS_SECRET_ACCESS_KEY' was not found" in found[0]
    assert "and the environment variable AWS_SECRET_ACCESS_KEY;" in found[0]
    assert "collectors.node.env[3]: the environment variable NODE comes from the pod and is not set here" in found[1]


def test_a_login_that_nobody_uses_needs_no_secret(tmp_path: Path, secrets: Path) -> None:
    put(secrets, "cloudwatch-credentials", AWS_ACCESS_KEY_ID="AK", AWS_SECRET_ACCESS_KEY="SK")
    values = {
        "kof": {signal: {"endpoint": ""} for signal in ("logs", "metrics", "traces")},
        "collectors": {
            "node": {
                "env": AWS,
                "exporters": {"awscloudwatchlogs": {"region": "r"}},
                "service": {
                    "pipelines": {
                        "logs": {"exporters": ["awscloudwatchlogs"]},
                        "metrics": {"exporters": ["debug"]},
                        "traces": {"exporters": ["debug"]},
                    }
                },
            }
        },
    }
    config = load(tmp_path, values)
    assert config.extensions == [] and config.components["extensions"] == {}
    assert sum("nothing uses it and the Secret 'storage-vmuser-credentials' was not found" in str(w) for w in config.warnings) == 2


def test_errors_of_values_and_of_configuration_come_together(tmp_path: Path) -> None:
    values = {
        "kof": {"basic_auth": False, "metrics": {"endpoint": "vm:8480"}, "logz": {}},
        "collectors": {"node": {"service": {"pipelines": {"metrics": {"exporters": ["nope"]}}}}},
    }
    found = errors(tmp_path, values)
    assert len(found) == 3, found
    assert found[2].startswith("/values.yaml:12: collectors.node.service.pipelines.metrics.exporters[0]: ")
    wanted = ["the URL 'vm:8480' has no scheme", "kof.logz: unknown key", "exporter 'nope' is not defined"]
    assert all(text in line for text, line in zip(wanted, found, strict=True)), found


def test_an_empty_endpoint_is_one_error(tmp_path: Path) -> None:
    found = errors(tmp_path, {"kof": {"basic_auth": False, "traces": {"endpoint": ""}}})
    assert (
        len(found) == 1
        and "kof.traces.endpoint: is empty, but the pipeline 'traces' of node sends to 'otlphttp/traces'" in found[0]
    )


def test_checking_elsewhere_without_secrets(tmp_path: Path) -> None:
    file = write_values(tmp_path, {})
    config = load_values([file], "node", AllKnown(), environ={}, need_secrets=False)
    assert sum("was not found" in str(w) for w in config.warnings) == 4
