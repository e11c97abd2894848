"""Values of KOF 1.2 and later to collectors, against what upstream's charts render, and the rules one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kofagent.config.errors import ConfigErrors
from kofagent.values import Rendered, render_values
from kofagent.values.render import collector_names
from kofagent.values.versions import NEWEST, find_version, stack_defaults, versions
from tests.values.golden import NEWER_NAMES, SHARED, needs_newer, newer, read, write_values

STACK = "opentelemetry-kube-stack"


def render(tmp_path: Path, stack: Any, collector: str = "daemon", **options: Any) -> Rendered:
    return render_values([write_values(tmp_path, {STACK: stack})], collector=collector, **options)


def config(tmp_path: Path, own: Any, collector: str = "daemon", default: Any = None) -> Any:
    """Of a collector with a configuration of its own, and one of all collectors."""
    stack = {"collectors": {collector: {"config": own}}, "defaultCRConfig": {"config": default or {}}}
    return render(tmp_path, stack, collector).config.plain()


@needs_newer
@pytest.mark.parametrize("name", NEWER_NAMES)
def test_equals_what_upstream_renders(name: str, tmp_path: Path) -> None:
    wanted = newer(name)
    file = write_values(tmp_path, wanted["values"])
    version = name.split("-", maxsplit=1)[0]
    assert set(collector_names([file], None, version)) == set(wanted["rendered"])
    for key, theirs in wanted["rendered"].items():
        rendered = render_values([file], collector=key, generation=version)
        assert rendered.generation == version and not rendered.errors
        assert rendered.manifest() == theirs, key


@needs_newer
def test_defaults_equal_upstreams_values() -> None:
    for version in versions():
        file = SHARED / "values" / f"kof-collectors-{version}.yaml"
        if not file.exists():
            print(f"not compared, since it is not on this machine: {file.name}")
            continue
        ours, theirs = stack_defaults(version).plain(), read(file)
        del theirs["global"]["imageRegistry"]
        assert ours.pop("global") == theirs["global"]
        assert ours == {key: theirs[STACK][key] for key in ours}


def test_every_version_is_there() -> None:
    assert versions()[0] == NEWEST and len(versions()) == 13
    for version in versions():
        assert stack_defaults(version).get("collectors", "daemon", "suffix").value == "daemon"
    assert find_version("v1.9") == "1.9.0" and find_version("1.8") == "1.8.1" and find_version("1.11.0-rc0") == "1.11.0"
    assert find_version("1.12") is None and find_version("0.3.0") is None and find_version("1") is None


def test_a_null_deletes_what_the_chart_itself_has_and_stays_elsewhere(tmp_path: Path) -> None:
    pipelines = {"logs": {"receivers": None}, "metrics": {"exporters": None}}
    stack = {"collectors": {"daemon": {"config": {"service": {"pipelines": pipelines}}}}}
    rendered = render(tmp_path, stack)
    made = rendered.config.plain()["service"]["pipelines"]
    assert "receivers" not in made["logs"]  # deleted, and defaultCRConfig has none
    assert made["metrics"]["exporters"] == ["prometheusremotewrite"]  # inherited from defaultCRConfig
    assert {d.path[-2:] for d in rendered.deleted if d.by.layer == "user"} == {("logs", "receivers"), ("metrics", "exporters")}
    then = {d.path[-2]: d.then.layer if d.then else "" for d in rendered.deleted if d.by.layer == "user"}
    assert then == {"logs": "", "metrics": "defaultCRConfig"}
    made = config(tmp_path, {"service": {"pipelines": {"logs": {"exporters": None}}}}, "controller-k0s")
    assert made["service"]["pipelines"]["logs"]["exporters"] is None  # the chart has no such collector


def test_default_cr_config_is_beneath_every_collector(tmp_path: Path) -> None:
    default = {"exporters": {"debug": {"verbosity": "basic"}, "otlphttp/logs": None}, "receivers": {"nop": {}}}
    made = config(tmp_path, {"exporters": {"debug": {}}, "receivers": {"otlp": False}}, "daemon", default)
    assert made["exporters"]["debug"] == {"verbosity": "basic"}  # an empty map changes nothing
    assert made["exporters"]["otlphttp/logs"] is None and made["receivers"]["otlp"] is False


def test_lists_replace_and_remember(tmp_path: Path) -> None:
    stack = {"collectors": {"daemon": {"config": {"service": {"extensions": ["k8s_observer"]}}}}}
    rendered = render(tmp_path, stack)
    names = rendered.config.get("service", "extensions")
    assert names is not None and names.plain() == ["k8s_observer"] and names.replaced is not None
    assert names.replaced.origin.layer == "defaultCRConfig" and names.replaced.lost == ("file_storage/exporters",)
    assert names.replaced.earlier is not None and "file_storage/journaldreceiver" in names.replaced.earlier.lost
    assert names.replaced.earlier.origin.layer == "collector"


def test_presets_lie_beneath_and_are_named_once(tmp_path: Path) -> None:
    off: dict[str, Any] = {"presets": {"hostMetrics": {"enabled": False}}}
    on = {
        "config": {
            "receivers": {
                "hostmetrics": {"collection_interval": "60s", "scrapers": {"filesystem": {"exclude_fs_types": {"fs_types": []}}}}
            },
            "service": {"pipelines": {"metrics": {"receivers": ["otlp", "hostmetrics"]}}},
        },
        "presets": {"kubernetesAttributes": {"extractAllPodLabels": True, "extractAllPodAnnotations": True}},
    }
    made = render(tmp_path, {"collectors": {"daemon": on}}).config
    plain = made.plain()
    host = plain["receivers"]["hostmetrics"]
    assert host["collection_interval"] == "60s" and host["root_path"] == "/hostfs" and len(host["scrapers"]) == 6
    assert host["scrapers"]["filesystem"]["exclude_fs_types"] == {"match_type": "strict", "fs_types": []}
    assert plain["service"]["pipelines"]["metrics"]["receivers"] == ["otlp", "hostmetrics", "kubeletstats"]
    everything = {"from": "pod", "key_regex": "(.*)", "tag_name": "$$1"}
    extract = plain["processors"]["k8sattributes"]["extract"]
    assert extract["labels"][-1] == everything and extract["annotations"] == [everything]
    assert made.get("receivers", "hostmetrics", "root_path").origin.layer == "preset"
    named = made.get("service", "pipelines", "metrics", "processors", 0)
    assert named.value == "k8sattributes" and (named.origin.layer, named.origin.note) == ("preset", "kubernetesAttributes")
    assert "hostmetrics" not in render(tmp_path, {"collectors": {"daemon": off}}).config.plain()["receivers"]


def test_a_preset_names_nothing_in_a_pipeline_that_is_not_there(tmp_path: Path) -> None:
    pipelines: dict[str, Any] = {
        "traces": None,
        "logs": {},
        "logs/mine": {"receivers": ["otlp"]},
        "metrics": {"receivers": ["otlp"]},
    }
    stack = {"collectors": {"mine": {"enabled": True, "presets": {"kubernetesAttributes": {"enabled": True}}}}}
    stack["collectors"]["mine"]["config"] = {"service": {"pipelines": pipelines}}
    made = render(tmp_path, {**stack, "defaultCRConfig": {"config": {"service": {"pipelines": {"logs": None}}}}}, "mine")
    service = made.config.plain()["service"]["pipelines"]
    assert service["traces"] is None and service["logs"] == {} and service["logs/mine"] == {"receivers": ["otlp"]}
    assert service["metrics"]["processors"] == ["k8sattributes"] and made.name == "kof-collectors"  # which contains "collector"


def test_collecting_logs(tmp_path: Path) -> None:
    logs = {"enabled": True, "includeCollectorLogs": False, "storeCheckpoints": True, "maxRecombineLogSize": 5}
    made = render(tmp_path, {"collectors": {"cluster": {"presets": {"logsCollection": logs}, "securityContext": {}}}}, "cluster")
    filelog = made.config.plain()["receivers"]["filelog"]
    assert filelog["exclude"] == "/var/log/pods/kof_kof-collectors-cluster-stats*_*/opentelemetry-kube-stack/*.log"
    assert filelog["storage"] == "file_storage" and filelog["operators"][0]["max_log_size"] == 5
    service = made.config.plain()["service"]
    assert service["extensions"] == ["file_storage/exporters", "file_storage"]
    assert service["pipelines"]["logs"]["receivers"] == ["k8sobjects", "filelog"]
    names = [volume["name"] for volume in made.fields["volumes"]]
    assert names == ["varlogpods", "varlibotelcol", "varlibdockercontainers", "fs-exporters"]
    assert [mount["name"] for mount in made.fields["volumeMounts"]][:3] == ["varlogpods", "varlibdockercontainers", "varlibotelcol"]
    assert made.fields["securityContext"] == {"runAsUser": 0, "runAsGroup": 0}


def test_a_file_of_scrape_jobs(tmp_path: Path) -> None:
    own = {
        "scrape_configs_file": "daemon_scrape_configs.yaml",
        "config": {"service": {"pipelines": {"metrics": {"receivers": ["otlp"]}}}},
    }
    made = render(tmp_path, {"collectors": {"cluster": own}}, "cluster").config.plain()
    jobs = [job["job_name"] for job in made["receivers"]["prometheus"]["config"]["scrape_configs"]]
    assert jobs == ["dummy", "kubernetes-pods", "node-exporter", "kubelet"]
    assert made["service"]["pipelines"]["metrics"]["receivers"] == ["prometheus", "otlp", "k8s_cluster"]
    own["scrape_configs_file"] = "nowhere.yaml"
    made = render(tmp_path, {"collectors": {"cluster": own}}, "cluster").config.plain()
    assert len(made["receivers"]["prometheus"]["config"]["scrape_configs"]) == 1


def test_environment_is_sorted_and_text(tmp_path: Path) -> None:
    source = {"secretKeyRef": {"name": "s", "key": "k"}}
    stack = {
        "clusterName": "c1",
        "extraEnvs": [{"name": "Z", "value": "extra"}, {"name": "A", "value": "extra"}],
        "collectors": {
            "daemon": {"env": [{"name": "S", "valueFrom": source}, {"name": "Z", "value": True}, {"name": "E", "value": ""}]}
        },
    }
    made = render(tmp_path, stack)
    assert made.env is not None
    entries = made.env.plain()[5:]
    assert entries == [
        {"name": "OTEL_RESOURCE_ATTRIBUTES", "value": "k8s.cluster.name=c1"},
        {"name": "A", "value": "extra"},
        {"name": "E", "value": ""},
        {"name": "Z", "value": "true"},
        {"name": "S", "valueFrom": source},
    ]


def test_names(tmp_path: Path) -> None:
    def name(stack: Any, release: str = "kof-collectors") -> str:
        return render(tmp_path, stack, release=release).name

    assert name({}) == "kof-collectors-daemon" and name({}, "my-daemons") == "my-daemons"
    assert name({"collectors": {"daemon": {"fullnameOverride": "mine"}}}) == "mine"
    assert name({"fullnameOverride": "all", "collectors": {"daemon": {"fullnameOverride": "mine"}}}) == "all"
    assert len(name({}, "r" * 70)) == 63


def wrong(tmp_path: Path, values: Any, collector: str = "daemon", **options: Any) -> list[str]:
    try:
        found = ConfigErrors(render_values([write_values(tmp_path, values)], collector=collector, **options).errors)
    except ConfigErrors as errors:
        found = errors
    return str(found).replace(f"{tmp_path}/", "").splitlines()


def test_collectors_that_do_not_run(tmp_path: Path) -> None:
    stack: Any = {"collectors": {"daemon": None, "cluster": {"enabled": False}}}
    assert wrong(tmp_path, {STACK: stack}) == [
        f"values.yaml:3: {STACK}.collectors.daemon: was deleted by a null; use controller-k0s or target-allocator"
    ]
    assert wrong(tmp_path, {STACK: stack}, "cluster") == [
        f"values.yaml:5: {STACK}.collectors.cluster.enabled: the collector is turned off; set enabled: true to run it"
    ]
    assert "there is no such collector; did you mean 'target-allocator'?" in wrong(tmp_path, {}, "target-alocator")[0]
    assert wrong(tmp_path, {"collectors": {"enabled": False}}) == [
        "values.yaml:2: collectors.enabled: the collectors are turned off; set it to true to run them"
    ]
    assert collector_names([write_values(tmp_path, {STACK: stack})], None, None) == ["target-allocator", "controller-k0s"]


def test_wrong_types_are_errors_with_their_line(tmp_path: Path) -> None:
    stack = {
        "defaultCRConfig": {"env": {"A": "b"}, "config": {"receivers": []}},
        "collectors": {"daemon": {"enabled": "true", "presets": {"hostMetrics": {"enabled": "no"}}}},
    }
    assert wrong(tmp_path, {STACK: stack}) == [
        f"values.yaml:3: {STACK}.defaultCRConfig.env: must be a list; correct it, or leave it out",
        f"values.yaml:6: {STACK}.defaultCRConfig.config.receivers: must be a map; write 'key: value' lines below it",
        f"values.yaml:9: {STACK}.collectors.daemon.enabled: must be true or false; correct it, or leave it out",
        f"values.yaml:12: {STACK}.collectors.daemon.presets.hostMetrics.enabled: must be true or false; correct it, or leave it out",
    ]
    assert wrong(tmp_path, {STACK: []}) == [f"values.yaml:1: {STACK}: must be a map; write 'key: value' lines below it"]


def test_keys_that_do_nothing_are_named(tmp_path: Path) -> None:
    values = {
        "resources": {"limits": {}},
        "kubeEtcd": {},
        "collectors": {"node": {}},
        "kof": {"metrics": {"endpoint": "http://x"}, "instrumentation": {}},
        STACK: {"colectors": {}, "collectors": {"daemon": {"service": {}, "hostNetworks": True}, "cluster": {"service": {}}}},
    }
    found = [
        str(w).replace(f"{tmp_path}/values.yaml:", "")
        for w in render_values([write_values(tmp_path, values)], collector="daemon").warnings
    ]
    nothing = "is a key of nothing and does nothing"
    assert found[0] == f"1: resources: {nothing}; remove it"
    assert found.pop(1) == f"3: kubeEtcd: {nothing}; move it below {STACK}"
    assert found[1].startswith("5: collectors.node: does nothing in KOF 1.2 and later; collectors stand below")
    assert found[2].startswith("7: kof.metrics: does nothing in KOF 1.2 and later; exporters and logins are")
    assert found[3] == f"11: {STACK}.colectors: {nothing}; did you mean 'collectors'?"
    assert (
        found[4]
        == f"14: {STACK}.collectors.daemon.service: does nothing beside config in the chart, and is taken as daemon.config.service here; move it there"
    )
    assert found[5] == f"15: {STACK}.collectors.daemon.hostNetworks: {nothing}; did you mean 'hostNetwork'?"
    assert [text for text in found[6:] if "resource/k8sclustername" not in text] == []


def test_generations_are_told_apart(tmp_path: Path) -> None:
    file = write_values(tmp_path, {STACK: {}})
    with pytest.raises(ConfigErrors, match=f":1: {STACK}: is a key of KOF 1.2 and later, .* use --collector NAME"):
        render_values([file], "node")
    with pytest.raises(ConfigErrors, match=r"KOF 0.3.0 has roles instead of collectors; use --role node or --role k8scluster"):
        render_values([file], collector="daemon", generation="0.3.0")
    with pytest.raises(ConfigErrors, match=r"KOF 1.9.0 has collectors instead of roles"):
        render_values([], "node", generation="1.9.0")
    with pytest.raises(ConfigErrors, match=r"unknown generation '1.12.0'; use 0.1.1, 0.3.0, or 1.2.0 to 1.11.0"):
        render_values([file], collector="daemon", generation="1.12.0")
    assert render_values([file], collector="daemon").generation == NEWEST
    told = render(tmp_path, {"collectors": {"daemon": {"image": {"tag": "v1.8.0"}}}})
    assert told.generation == "1.8.0" and told.note.startswith("told by collectors.daemon.image.tag at ")
    assert render(tmp_path, {"collectors": {"daemon": {"image": {"tag": "v1.8.0"}}}}, generation="1.10").generation == "1.10.0"


CLUSTER = {STACK: {"clusterName": "c1"}}


def test_parts_of_an_umbrella_charts_file(tmp_path: Path) -> None:
    management = {"fromManagement": {"collectors": {STACK: {"extraEnvs": []}}}}
    child = {"values": {"collectors": CLUSTER, **management}}
    regional = {"values": {"collectors": {STACK: {"clusterName": "r1"}}}}

    def cluster(values: Any, part: str | None = None) -> Any:
        found = render_values([write_values(tmp_path, values)], collector="cluster", part=part).values
        return found.get("clusterName").value, found.get("extraEnvs").origin.layer

    assert cluster({"kof-child": child}, "kof-child") == ("c1", "chart")
    assert cluster({"kof-child": child}, "management") == ("c1", "user")
    assert cluster({"kof-child": {"values": {"collectors": CLUSTER}}, "kof-mothership": {}}) == ("c1", "chart")
    assert cluster({"kof-child": {"values": {"collectors": CLUSTER}}}, "management") == ("c1", "chart")
    assert cluster({"kof-child": child, "kof-regional": regional}, "kof-regional") == ("r1", "chart")
    assert cluster({"kof-collectors": {"enabled": True, "values": CLUSTER}}) == ("c1", "chart")
    assert cluster({"collectors": CLUSTER}) == ("c1", "chart")
    with pytest.raises(ConfigErrors, match=r"kof-collectors.enabled: the collectors are turned off"):
        cluster({"kof-collectors": {"enabled": False, "values": CLUSTER}})
    with pytest.raises(
        ConfigErrors, match="has values for several kinds of clusters; say with --part which of them: kof-child, kof-reg"
    ):
        cluster({"kof-child": {"values": {"collectors": CLUSTER}}, "kof-regional": regional})
    with pytest.raises(ConfigErrors, match="has no values for kof-collectors; it has kof-regional"):
        cluster({"kof-regional": regional}, "kof-collectors")
    with pytest.raises(ConfigErrors, match="unknown part 'regional'; did you mean 'kof-regional'"):
        cluster({"kof-regional": regional}, "regional")


def test_a_part_that_newer_charts_ignore(tmp_path: Path) -> None:
    file = write_values(tmp_path, {"kof-collectors": {"values": CLUSTER}})
    found = render_values([file], collector="target-allocator").warnings
    assert [w.message.split(",")[0] for w in found] == ["is ignored by the umbrella chart of KOF 1.10 and later"]
    assert render_values([file], collector="target-allocator", generation="1.9.0").warnings == []


def test_an_annotation_of_a_cluster(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    text = "metadata:\n  annotations:\n    k0rdent.mirantis.com/kof-collectors-values: |\n      opentelemetry-kube-stack:\n        clusterName: c1\n"
    file.write_text(text)
    found = render_values([str(file)], collector="cluster").values.get("clusterName")
    assert (found.value, found.origin.line) == ("c1", 5)


def test_later_files_lie_over_earlier_ones_whatever_their_form(tmp_path: Path) -> None:
    umbrella = write_values(tmp_path, {"kof-child": {"values": {"collectors": CLUSTER}}}, "umbrella.yaml")
    own = write_values(tmp_path, {STACK: {"clusterName": "c2"}}, "own.yaml")
    assert render_values([umbrella, own], collector="cluster").values.get("clusterName").value == "c2"
    assert render_values([own, umbrella], collector="cluster").values.get("clusterName").value == "c1"
