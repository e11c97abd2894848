"""What the chart renders: every recipe, no secret, names that KOF knows, and a configuration that the agent takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from kofagent.cli.main import main
from kofagent.component import registry
from kofagent.config.expand import secret_variable
from kofagent.config.load import LoadedConfig
from kofagent.values import load_values
from kofagent.values.schema import values_schema
from tests.conftest import SHARED
from tests.helm.chart import (
    CHART,
    CHECKOUT,
    CLUSTER,
    INSTRUMENTATION,
    MONITORS,
    NODE,
    RECIPES,
    ROLES,
    Release,
    helm,
    notes,
    template,
)

needs_helm = pytest.mark.server("helm")
SECRET = "storage-vmuser-credentials"


def generation_of(recipe: Path) -> str:
    return "0.1.1" if recipe.stem == "child-to-regional" else ""


def render(recipe: Path, **more: Any) -> Release:
    return template(recipe, sets=[f"kofagent.generation={generation_of(recipe)}"], **more)


def loaded(release: Release, role: str, folder: Path, generation: str = "") -> LoadedConfig:
    """The configuration that the agent makes of its ConfigMap, with the environment that its container gets."""
    data = release.get("ConfigMap", ROLES[role])["data"]
    for name, text in data.items():
        (folder / name).write_text(text)
    container = release.container(role)
    environ = {entry["name"]: entry.get("value", f"x-{entry['name']}") for entry in container["env"]}
    return load_values(
        [str(folder / "collectors-values.yaml")], role, registry, generation or None, environ, over=[str(folder / "pod.yaml")]
    )


@needs_helm
def test_lint() -> None:
    for recipe in (None, *RECIPES):
        done = helm("lint", "--strict", str(CHART), *([f"--values={recipe}"] if recipe else []))
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_is_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["components", "--values-schema"]) == 0
    assert (CHART / "values.schema.json").read_text() == capsys.readouterr().out, (
        "run: kofagent components --values-schema > helm/kofagent/values.schema.json"
    )


@pytest.mark.parametrize(
    "file", [*RECIPES, CHART / "values.yaml", *SHARED.glob("values/kof-collectors-0.*.yaml")], ids=lambda f: f.name
)
def test_the_schema_takes(file: Path) -> None:
    schema = values_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    errors = list(jsonschema.Draft7Validator(schema).iter_errors(yaml.safe_load(file.read_text())))
    assert not errors, errors


@needs_helm
@pytest.mark.parametrize(
    "wrong",
    [
        "kofagent.node.ressources.limits.memory=1Gi",
        "kof.metrics.endpont=x",
        "kofagent.generation=0.2.0",
        "opencost.enabled=maybe",
        "collectors.node.run_as_rot=true",
    ],
)
def test_the_schema_refuses(wrong: str) -> None:
    done = helm("template", "x", str(CHART), f"--set={wrong}")
    assert done.returncode != 0
    assert wrong.partition("=")[0].split(".")[-1] in done.stderr or wrong.partition("=")[0].split(".")[0] in done.stderr


@needs_helm
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda f: f.stem)
def test_a_recipe_renders_whole_objects(recipe: Path) -> None:
    release = render(recipe, apis=[MONITORS, INSTRUMENTATION])
    seen = set()
    accounts = set(release.kinds("ServiceAccount"))
    for each in release.objects:
        key = (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        assert key not in seen
        seen.add(key)
        assert len(each["metadata"]["name"]) <= 63
    for each in release.workloads():
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert each["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert each["spec"]["template"]["spec"]["serviceAccountName"] in accounts
    for name, service in release.kinds("Service").items():
        matched = [
            w
            for w in release.workloads()
            if service["spec"]["selector"].items() <= w["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert len(matched) == 1, name
        ports = {p["name"] for c in matched[0]["spec"]["template"]["spec"]["containers"] for p in c["ports"]}
        assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports


@needs_helm
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda f: f.stem)
def test_the_agent_takes_what_the_chart_gives_it(recipe: Path, role: str, tmp_path: Path) -> None:
    generation = generation_of(recipe)
    config = loaded(render(recipe), role, tmp_path, generation)
    user = load_values([str(recipe)], role, registry, generation or None, {}, need_secrets=False)
    extra = {"metrics/kofagent"}
    stored = 0
    assert set(config.pipelines) - extra == set(user.pipelines)
    for name, pipeline in user.pipelines.items():
        assert config.pipelines[name] == pipeline
    for section in ("receivers", "processors", "exporters", "extensions"):
        kept = {id: c for id, c in config.effective.get(section, {}).items() if "/kofagent" not in id}
        if section == "receivers" and "prometheus" in kept and role == "node":
            scraper = kept["prometheus"]
            if generation != "0.1.1":
                assert scraper["api_server"]["server_config"]["endpoint"] == ":9090"
                scraper["api_server"]["server_config"]["endpoint"] = "localhost:9090"
            assert scraper.pop("allocation") == {"strategy": "per-node"}
            assert scraper.pop("monitors") == {"enabled": True, "scrape_interval": "10s", "deny_files": True}
        for id in {"filelog", "filelog/kube", "k8s_events", "k8sobjects"} & set(kept) if section == "receivers" else ():
            assert kept[id].pop("storage") == "file_storage/kofagent"
        if section == "processors" and "k8sattributes" in kept:
            assert kept["k8sattributes"].pop("filter") == {"node_from_env_var": "K8S_NODE_NAME"}
        for id in kept if section == "exporters" else ():
            if id.startswith(("otlphttp", "prometheusremotewrite")) and "sending_queue" not in user.effective[section][id]:
                stored += 1
                assert kept[id].pop("sending_queue")["storage"] == "file_storage/kofagent"
        assert kept == {id: c for id, c in user.effective.get(section, {}).items() if id in kept}
    assert config.telemetry.metrics.address == ":8888"
    keeps = {"filelog", "filelog/kube", "k8s_events", "k8sobjects"} & set(user.effective["receivers"])
    assert config.extensions == [*user.extensions, *(["file_storage/kofagent"] if keeps or stored else [])]


@needs_helm
def test_upstreams_whole_values_change_nothing(tmp_path: Path) -> None:
    file = SHARED / "values" / "kof-collectors-0.3.0.yaml"
    if not file.exists():
        pytest.skip("upstream's values are not here")
    whole, bare = template(file), template()
    for role in ROLES:
        got, want = (loaded(release, role, tmp_path).effective for release in (whole, bare))
        # the jobs are written out now, so those that may have targets without a node are known
        for nodeless in (c["receivers"].get("prometheus/kofagent-nodeless", {"config": {}}) for c in (got, want)):
            nodeless["config"].pop("scrape_configs", None)
        assert got == want
        assert whole.rules(role) == bare.rules(role)
        assert whole.container(role)["ports"] == bare.container(role)["ports"]


@needs_helm
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda f: f.stem)
def test_credentials_are_references(recipe: Path) -> None:
    release = render(recipe)
    assert "Secret" not in {o["kind"] for o in release.objects}
    for role in ROLES:
        for entry in release.container(role)["env"]:
            assert ("value" in entry) is False, entry["name"]
            ref = entry["valueFrom"].get("secretKeyRef")
            if ref is not None:
                assert not ref.get("optional")
                assert entry["name"] in (secret_variable(ref["name"], ref["key"]), ref["key"])
        values = yaml.safe_load(release.get("ConfigMap", ROLES[role])["data"]["collectors-values.yaml"])
        assert set(values) <= {"global", "kof", "collectors"}
        assert set(values["collectors"]) <= {"enabled", role}
        assert "env" not in values["collectors"].get(role, {})


@needs_helm
def test_which_secrets_a_recipe_needs() -> None:
    def names(stem: str) -> set[str]:
        release = render(CHECKOUT / "configs" / f"{stem}.yaml")
        return {
            e["valueFrom"]["secretKeyRef"]["name"]
            for role in ROLES
            for e in release.container(role)["env"]
            if "secretKeyRef" in e["valueFrom"]
        }

    assert names("management-to-regional") == names("child-to-regional") == {SECRET}
    assert names("management-to-regional-istio") == set()
    assert names("management-to-cloudwatch") == {"cloudwatch-credentials"}


@needs_helm
def test_a_secret_named_anywhere_in_the_configuration_reaches_the_container(tmp_path: Path) -> None:
    values = {"collectors": {"node": {"extensions": {"bearertokenauth/x": {"token": "${secret:my.token/Key-1}"}}}}}
    release = template(values=values, folder=tmp_path)
    entry = {e["name"]: e for e in release.container("node")["env"]}["MY_TOKEN_KEY_1"]
    assert entry["valueFrom"]["secretKeyRef"] == {"name": "my.token", "key": "Key-1"}
    assert "MY_TOKEN_KEY_1" not in {e["name"] for e in release.container("k8scluster")["env"]}
    assert "${secret:my.token/Key-1}" in release.get("ConfigMap", NODE)["data"]["collectors-values.yaml"]


@needs_helm
def test_names_and_ports_that_others_know() -> None:
    release = template()
    for suffix in ("", "-headless"):
        service = release.get("Service", NODE + suffix)
        assert {p["name"]: p["port"] for p in service["spec"]["ports"]} == {
            "otlp-grpc": 4317,
            "otlp-http": 4318,
            "metrics": 8888,
            "api-server": 9090,
        }
    assert release.get("Service", NODE)["spec"]["internalTrafficPolicy"] == "Local"
    assert release.get("Service", NODE + "-headless")["spec"]["clusterIP"] == "None"
    for name in (NODE, CLUSTER):
        assert release.get("Service", name + "-monitoring")["spec"]["ports"][0]["port"] == 8888
    for role in ROLES:
        pod = release.get("DaemonSet" if role == "node" else "Deployment", ROLES[role])["spec"]["template"]
        # KOF's UI looks for these
        assert pod["metadata"]["labels"]["app.kubernetes.io/component"] == "opentelemetry-collector"
        assert pod["metadata"]["labels"]["k0rdent.mirantis.com/kof-collector-metrics"] == "collector"
        assert pod["spec"]["containers"][0]["name"] == "otc-container"
    labels = release.get("DaemonSet", NODE)["spec"]["template"]["metadata"]
    assert labels["labels"]["k0rdent.mirantis.com/kof-prometheus-receiver"] == "prometheus"
    assert labels["annotations"]["kof.k0rdent.mirantis.com/prometheus-api-server-port"] == "9090"


@needs_helm
def test_ports_follow_the_configuration(tmp_path: Path) -> None:
    values = {
        "collectors": {
            "node": {
                "receivers": {
                    "otlp": {"protocols": {"grpc": {"endpoint": "0.0.0.0:14317"}, "http": None}},
                    "prometheus": {"api_server": {"server_config": {"endpoint": "0.0.0.0:19090"}}},
                },
                "service": {"telemetry": {"metrics": {"address": "127.0.0.1:9999"}}},
            }
        }
    }
    release = template(values=values, folder=tmp_path)
    assert {p["name"]: p["containerPort"] for p in release.container("node")["ports"]} == {"otlp-grpc": 14317, "api-server": 19090}
    assert not {"livenessProbe", "readinessProbe", "startupProbe"} & set(release.container("node"))
    assert "api_server" not in release.get("ConfigMap", NODE)["data"]["pod.yaml"]
    assert NODE + "-monitoring" not in release.kinds("Service")


@needs_helm
def test_resources_and_security(tmp_path: Path) -> None:
    release = template()
    node = release.container("node")
    assert node["resources"]["requests"]["memory"] == node["resources"]["limits"]["memory"] == "128Mi"
    for workload in release.workloads():
        spec = workload["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["nodeSelector"] == {"kubernetes.io/os": "linux"}
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert all(
                m.get("readOnly")
                for m in container.get("volumeMounts", ())
                if any(v["name"] == m["name"] != "state" and "hostPath" in v for v in spec["volumes"])
            )
    assert release.pod("node")["tolerations"] == [{"operator": "Exists"}]
    assert release.pod("node")["securityContext"]["runAsUser"] == 65532
    assert release.pod("node")["securityContext"]["runAsGroup"] == 0  # logs of pods are root:root 0640
    assert release.pod("k8scluster")["securityContext"]["runAsGroup"] == 65532
    assert not [v for v in release.pod("k8scluster")["volumes"] if "hostPath" in v]

    rooted = template(values={"collectors": {"node": {"run_as_root": True}}}, folder=tmp_path)
    assert rooted.pod("node")["securityContext"]["runAsUser"] == 0
    assert rooted.container("node")["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}


@needs_helm
def test_the_node_is_mounted_only_for_receivers_that_read_it(tmp_path: Path) -> None:
    def mounts(receivers: dict[str, Any]) -> dict[str, str]:
        release = template(values={"collectors": {"node": {"receivers": receivers}}}, folder=tmp_path)
        volumes = release.pod("node")["volumes"]
        return {v["name"]: v["hostPath"]["path"] for v in volumes if "hostPath" in v and v["name"] != "state"}

    assert mounts({}) == {"varlog": "/var/log"}
    assert mounts({"filelog/kube": None}) == {}
    assert mounts({"filelog/kube": None, "hostmetrics": {"root_path": "/hostfs"}}) == {"hostfs": "/"}


@needs_helm
def test_what_the_pod_adds_yields_to_the_users_environment(tmp_path: Path) -> None:
    env = [{"name": "K8S_NODE_NAME", "value": "mine"}, {"name": "PLAIN", "value": "x"}]
    release = template(values={"collectors": {"node": {"env": env}}}, folder=tmp_path)
    found = release.container("node")["env"]
    assert [e for e in found if e["name"] == "K8S_NODE_NAME"] == env[:1]
    assert env[1] in found


@needs_helm
def test_a_changed_value_restarts_the_pods_it_concerns(tmp_path: Path) -> None:
    def sums(values: dict[str, Any]) -> list[str]:
        release = template(values=values, folder=tmp_path)
        return [
            release.get(k, ROLES[r])["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for k, r in (("DaemonSet", "node"), ("Deployment", "k8scluster"))
        ]

    before, after = sums({}), sums({"collectors": {"node": {"receivers": {"nop": {}}}}})
    assert before[0] != after[0]
    assert before[1] == after[1]


@needs_helm
def test_exporters_are_scraped_with_the_labels_dashboards_select(tmp_path: Path) -> None:
    node = loaded(template(), "node", tmp_path).effective["receivers"]["prometheus/kofagent"]["config"]
    assert node["global"]["external_labels"] == {"clusterName": "mothership"}
    (job,) = node["scrape_configs"]
    assert job["job_name"] == "node-exporter"
    assert job["honor_labels"] is False  # `nodename` of node_uname_info is the node's name too
    assert job["kubernetes_sd_configs"][0]["selectors"][0]["field"] == "spec.nodeName=${env:K8S_NODE_NAME}"
    assert {"action": "replace", "source_labels": ["__meta_kubernetes_pod_node_name"], "target_label": "nodename"} in job[
        "relabel_configs"
    ]
    jobs = loaded(template(), "k8scluster", tmp_path).effective["receivers"]["prometheus/kofagent"]["config"]["scrape_configs"]
    assert [(j["job_name"], j["honor_labels"]) for j in jobs] == [
        ("kube-state-metrics", True),
        ("kube-state-metrics/metrics", False),
        ("kof-collectors-opencost", True),
    ]
    assert {"target_label": "job", "replacement": "kube-state-metrics"} in jobs[1]["relabel_configs"]

    objects = template(apis=[MONITORS])
    assert "prometheus/kofagent:" not in objects.text
    monitors = objects.kinds("ServiceMonitor")
    assert set(monitors) == {
        "kof-collectors-prometheus-node-exporter",
        "kof-collectors-kube-state-metrics",
        "kof-collectors-opencost",
    }
    for name, monitor in monitors.items():
        service = objects.get("Service", name)
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        label = monitor["spec"].get("jobLabel")
        assert (service["metadata"]["labels"][label] if label else name) in (
            "node-exporter",
            "kube-state-metrics",
            "kof-collectors-opencost",
        )
    exporter = monitors["kof-collectors-prometheus-node-exporter"]["spec"]["endpoints"][0]
    assert exporter["relabelings"] == [
        {"action": "replace", "sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "nodename"}
    ]


@needs_helm
def test_targets_without_a_node_are_the_cluster_agents(tmp_path: Path) -> None:
    jobs = [
        {"job_name": "pods", "kubernetes_sd_configs": [{"role": "pod"}]},
        {"job_name": "outside", "static_configs": [{"targets": ["10.0.0.1:9100"]}]},
        {"job_name": "services", "kubernetes_sd_configs": [{"role": "service"}]},
    ]
    release = template(
        values={"collectors": {"node": {"receivers": {"prometheus": {"config": {"scrape_configs": jobs}}}}}}, folder=tmp_path
    )
    receiver = loaded(release, "k8scluster", tmp_path).effective["receivers"]["prometheus/kofagent-nodeless"]
    assert receiver["allocation"] == {"strategy": "without-node"}
    assert receiver["config"]["scrape_configs"] == jobs[1:]
    assert receiver["config"]["global"]["external_labels"] == {"clusterName": "mothership"}
    assert receiver["api_server"]["server_config"]["endpoint"] == ":9090"
    assert {p["name"]: p["containerPort"] for p in release.container("k8scluster")["ports"]} == {
        "metrics": 8888,
        "api-server": 9090,
    }
    pod = release.get("Deployment", CLUSTER)["spec"]["template"]["metadata"]
    assert pod["labels"]["k0rdent.mirantis.com/kof-prometheus-receiver"] == "prometheus"
    assert pod["annotations"]["kof.k0rdent.mirantis.com/prometheus-api-server-port"] == "9090"
    own = loaded(release, "node", tmp_path).effective["receivers"]["prometheus"]
    assert own["config"]["scrape_configs"] == jobs
    assert own["allocation"] == {"strategy": "per-node"}


@needs_helm
def test_the_targets_api_of_the_cluster_agent_leaves_the_users_alone(tmp_path: Path) -> None:
    def endpoints(**receivers: Any) -> list[str]:
        release = template(values={"collectors": {"k8scluster": {"receivers": receivers}}}, folder=tmp_path)
        found = loaded(release, "k8scluster", tmp_path).effective["receivers"]
        return [
            found[name].get("api_server", {}).get("server_config", {}).get("endpoint", "")
            for name in ("prometheus", "prometheus/kofagent-nodeless")
        ]

    assert endpoints() == ["", ":9090"]
    assert endpoints(prometheus={"api_server": {"enabled": True}}) == [":9090", ":9091"]
    users = {"enabled": True, "server_config": {"endpoint": ":7000"}}
    assert endpoints(prometheus={"api_server": users}) == [":7000", ":7001"]
    assert endpoints(**{"prometheus/kofagent-nodeless": {"api_server": users}}) == ["", ":7000"]


@needs_helm
def test_a_users_own_allocation_and_filter_stay(tmp_path: Path) -> None:
    role = {
        "receivers": {"prometheus": {"allocation": {"strategy": "all"}, "monitors": {"enabled": False}}},
        "processors": {"k8sattributes": {"filter": {"namespace": "apps"}}},
    }
    config = loaded(template(values={"collectors": {"node": role}}, folder=tmp_path), "node", tmp_path).effective
    assert config["receivers"]["prometheus"]["allocation"] == {"strategy": "all"}
    assert config["receivers"]["prometheus"]["monitors"] == {"enabled": False, "deny_files": True}
    assert config["processors"]["k8sattributes"]["filter"] == {"namespace": "apps"}


@needs_helm
def test_parts_can_be_switched_off() -> None:
    release = template(
        sets=["prometheus-node-exporter.enabled=false", "kube-state-metrics.enabled=false", "opencost.enabled=false"]
    )
    assert {w["metadata"]["name"] for w in release.workloads()} == {NODE, CLUSTER}
    assert "prometheus/kofagent:" not in release.text
    off = template(sets=["collectors.enabled=false"])
    assert NODE not in off.text.replace(f"http://{NODE}", "")
    assert set(off.kinds("DaemonSet")) == {"kof-collectors-prometheus-node-exporter"}


@needs_helm
def test_opencost_logs_in_with_the_secret() -> None:
    release = template(CHECKOUT / "configs" / "management-to-regional.yaml")
    env = {
        e["name"]: e
        for e in release.get("Deployment", "kof-collectors-opencost")["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["PROMETHEUS_SERVER_ENDPOINT"]["value"] == "https://vmauth.regional.example.com/vm/select/0/prometheus"
    assert env["DB_BASIC_AUTH_PW"]["valueFrom"]["secretKeyRef"] == {"name": SECRET, "key": "password"}
    assert env["EMIT_KSM_V1_METRICS_ONLY"]["value"] == "true"
    istio = template(CHECKOUT / "configs" / "management-to-regional-istio.yaml")
    assert "DB_BASIC_AUTH_PW" not in istio.text


@needs_helm
def test_instrumentation_only_where_it_exists(tmp_path: Path) -> None:
    assert "Instrumentation" not in {o["kind"] for o in template().objects}
    made = template(apis=[INSTRUMENTATION]).get("Instrumentation", "kof-instrumentation")
    assert made["spec"]["exporter"]["endpoint"] == f"http://{NODE}:4318"
    assert made["spec"]["go"]["resourceRequirements"]["limits"] == {"memory": "128Mi"}
    values = {"kof": {"instrumentation": {"resources": {"limits": {"memory": "64Mi"}}}}}
    own = template(values=values, folder=tmp_path, apis=[INSTRUMENTATION]).get("Instrumentation", "kof-instrumentation")
    assert own["spec"]["go"]["resourceRequirements"] == {"limits": {"memory": "64Mi"}}
    off = template(apis=[INSTRUMENTATION], sets=["kof.instrumentation.enabled=false"])
    assert "Instrumentation" not in {o["kind"] for o in off.objects}


@needs_helm
def test_images_can_come_from_elsewhere() -> None:
    release = template(
        sets=["global.imageRegistry=registry.test", "kofagent.image.digest=sha256:0", "kube-state-metrics.image.tag=v9"]
    )
    images = {c["image"] for w in release.workloads() for c in w["spec"]["template"]["spec"]["containers"]}
    assert all(image.startswith("registry.test/") for image in images)
    assert {"registry.test/kofagent@sha256:0", "registry.test/kube-state-metrics/kube-state-metrics:v9"} <= images


@needs_helm
def test_notes_say_what_has_no_effect(tmp_path: Path) -> None:
    said = notes(tmp_path, "--set=kube-state-metrics.rbac.create=false")
    assert "kube-state-metrics.rbac.create has no effect" in said
    assert f"get secret {SECRET}" in said
    assert f"http://{NODE}.kof:4318" in said
    assert f"port-forward ds/{NODE} 9090 " in said and f"port-forward deploy/{CLUSTER} 9090 " in said


def test_the_helpers_know_the_default_pipelines() -> None:
    text = (CHART / "templates" / "_helpers.tpl").read_text()
    block = re.search(r'define "kofagent.defaults" -}}\n(.*?)\{\{- end }}', text, re.DOTALL)
    assert block is not None
    known = yaml.safe_load(block[1])
    for generation, folder in (("0.3.0", ""), ("0.1.1", "0.1.1")):
        for role in ROLES:
            pipelines = yaml.safe_load((CHECKOUT / "pipelines" / folder / f"{role}.yaml").read_text())
            told = known[generation][role]
            assert sorted(told["receivers"]) == sorted(pipelines["receivers"])
            assert set(told["processors"]) == set(pipelines["processors"])
            scraper = pipelines["receivers"].get("prometheus", {})
            assert told["api"] == scraper.get("api_server", {}).get("enabled", False)
            jobs = [json.dumps(job, separators=(",", ":")) for job in scraper.get("config", {}).get("scrape_configs", ())]
            marks = (
                '"role":"node"',
                '"role":"pod"',
                '"role":"endpoints"',
                "kubernetes.default",
                "/proxy/",
                "attach_metadata",
                "__meta_kubernetes_node_name",
            )
            assert [[m in job for m in marks] for job in told["jobs"]] == [[m in job for m in marks] for job in jobs]
            objects = pipelines["receivers"].get("k8sobjects", {}).get("objects", ())
            assert told.get("objects", []) == [{k: o[k] for k in ("name", "group") if k in o} for o in objects]
