"""The detectors of resourcedetection that ask metadata servers, against scripted ones that answer as the clouds' do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kofagent.component.protocols import StartError
from kofagent.kubernetes.resources import CONFIGMAPS, NAMESPACES, NODES
from kofagent.processors.resourcedetection import COMPONENT, azure, gcp
from kofagent.processors.resourcedetection import processor as detection
from kofagent.processors.resourcedetection.config import Config
from kofagent.telemetry.signal import Signal
from tests.processors.support import processor
from tests.support.components import eventually
from tests.support.fake_kube import FakeKube

Answer = str | bytes | dict[str, Any] | int | Callable[[web.Request], Awaitable[web.StreamResponse]]

IDENTITY = {
    "region": "eu-central-1",
    "accountId": "123456789012",
    "availabilityZone": "eu-central-1b",
    "instanceId": "i-0abc",
    "imageId": "ami-1",
    "instanceType": "m5.large",
}
EC2 = {
    "cloud.provider": "aws",
    "cloud.platform": "aws_ec2",
    "cloud.region": "eu-central-1",
    "cloud.account.id": "123456789012",
    "cloud.availability_zone": "eu-central-1b",
    "host.id": "i-0abc",
    "host.image.id": "ami-1",
    "host.type": "m5.large",
    "host.name": "ip-10-0-0-1.eu-central-1.compute.internal",
}
COMPUTE = {
    "location": "westeurope",
    "name": "aks-pool-0",
    "vmId": "vm-1",
    "vmSize": "Standard_D2",
    "subscriptionId": "sub-1",
    "resourceGroupName": "MC_group_cluster_westeurope",
    "vmScaleSetName": "set-1",
    "zone": "2",
    "osProfile": {"computerName": "aks-pool-000"},
    "tagsList": [{"name": "team", "value": "a"}, {"name": "cost", "value": "b"}],
}


class Scripted:
    """A server of paths. A path that is not in `answers` is 404; `requests` has what came."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.requests: list[web.Request] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        answer = self.answers.get(f"{request.method} {request.path}", self.answers.get(request.path, 404))
        if callable(answer):
            return await answer(request)
        if isinstance(answer, int):
            return web.Response(status=answer)
        if isinstance(answer, dict):
            return web.json_response(answer, headers={"Metadata-Flavor": "Google"})
        return web.Response(body=answer if isinstance(answer, bytes) else answer.encode(), headers={"Metadata-Flavor": "Google"})


async def _serve(scripted: Scripted, site: Callable[[web.AppRunner], web.BaseSite]) -> web.AppRunner:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", scripted.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await site(runner).start()
    return runner


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scripted]:
    for name in (
        "KUBERNETES_SERVICE_HOST",
        "GCE_METADATA_HOST",
        "DOCKER_HOST",
        "DOCKER_TLS_VERIFY",
        "AWS_EC2_METADATA_DISABLED",
        "ECS_CONTAINER_METADATA_URI",
        "ECS_CONTAINER_METADATA_URI_V4",
        "K_CONFIGURATION",
        "FUNCTION_TARGET",
        "CLOUD_RUN_JOB",
        "GAE_SERVICE",
    ):
        monkeypatch.delenv(name, raising=False)
    scripted = Scripted()
    runner = await _serve(scripted, lambda runner: web.TCPSite(runner, "127.0.0.1", 0))
    host, port = runner.addresses[0][:2]
    scripted.url = f"http://{host}:{port}"
    monkeypatch.setattr(azure, "BASE", scripted.url)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", scripted.url)
    monkeypatch.setenv("GCE_METADATA_HOST", f"{host}:{port}")
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", scripted.url + "/ec2-api")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key-of-aws")
    yield scripted
    await runner.cleanup()


@pytest.fixture
async def kube(server: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FakeKube]:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("K8S_NODE_NAME", "n1")
    async with FakeKube() as api:
        api.use(monkeypatch, tmp_path)
        yield api


async def detected(**options: Any) -> dict[str, Any]:
    made, _ = processor(COMPONENT, {"timeout": "5s", **options}, Signal.LOGS)
    try:
        await made.start()
        return dict(made.detected)
    finally:
        await made.stop()


def on(*names: str) -> dict[str, Any]:
    return {"resource_attributes": {name: {"enabled": True} for name in names}}


def instance(server: Scripted, token: str = "t0k") -> None:
    """An EC2 instance whose service wants a token, if there is one."""

    def guarded(answer: dict[str, Any] | str) -> Answer:
        async def handle(request: web.Request) -> web.StreamResponse:
            if token and request.headers.get("X-aws-ec2-metadata-token") != token:
                return web.Response(status=401)
            return web.json_response(answer) if isinstance(answer, dict) else web.Response(text=answer)

        return handle

    if token:
        server.answers["PUT /latest/api/token"] = token
    server.answers["/latest/dynamic/instance-identity/document"] = guarded(IDENTITY)
    server.answers["/latest/meta-data/hostname"] = guarded(str(EC2["host.name"]))
    server.answers["/latest/meta-data/tags/instance"] = guarded("team\ncost")
    server.answers["/latest/meta-data/tags/instance/team"] = guarded("a")
    server.answers["/latest/meta-data/tags/instance/cost"] = guarded("b")


@pytest.mark.parametrize("token", ["t0k", ""])
async def test_ec2(server: Scripted, token: str) -> None:
    instance(server, token)
    assert await detected(detectors=["ec2"]) == EC2
    tags = await detected(detectors=["ec2"], ec2={"tags": ["^te"], "tags_from_imds": True, "resource_attributes": {}})
    assert tags == {**EC2, "ec2.tag.team": "a"}
    off = {name: {"enabled": False} for name in EC2 if name != "host.id"}
    assert await detected(detectors=["ec2"], ec2={"resource_attributes": off}) == {"host.id": "i-0abc"}


async def test_ec2_tags_from_the_api_are_signed_and_the_key_is_nowhere(server: Scripted, caplog: pytest.LogCaptureFixture) -> None:
    instance(server)
    seen: dict[str, str] = {}

    async def api(request: web.Request) -> web.StreamResponse:
        seen.update(await request.post())  # type: ignore[arg-type]
        seen["Authorization"] = request.headers["Authorization"]
        items = "".join(f"<item><key>{k}</key><value>{v}</value></item>" for k, v in (("team", "a"), ("cost", "b")))
        xml = f'<DescribeTagsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><tagSet>{items}</tagSet></DescribeTagsResponse>'
        return web.Response(text=xml)

    server.answers["POST /ec2-api/"] = api
    caplog.set_level("DEBUG")
    assert await detected(detectors=["ec2"], ec2={"tags": ["cost"]}) == {**EC2, "ec2.tag.cost": "b"}
    assert seen["Action"] == "DescribeTags" and seen["Filter.1.Value.1"] == "i-0abc"
    assert "Credential=AKIDEXAMPLE/" in seen["Authorization"] and "/eu-central-1/ec2/aws4_request" in seen["Authorization"]
    assert "secret-key-of-aws" not in caplog.text and "t0k" not in caplog.text


@pytest.mark.parametrize("answer", [500, b"\xff<not xml", "<a>&b;</a>"])
async def test_an_ec2_api_that_fails_costs_the_detector_only(server: Scripted, answer: Answer, monkeypatch: Any) -> None:
    instance(server)
    server.answers["POST /ec2-api/"] = answer
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=1")
    assert await detected(detectors=["env", "ec2"], ec2={"tags": ["cost"]}) == {"a": "1"}


def version(kube: FakeKube, text: str) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        return web.json_response({"gitVersion": text})

    kube.routes["/version"] = handle


async def test_eks(kube: FakeKube, server: Scripted) -> None:
    instance(server)
    version(kube, "v1.33.1")
    assert await detected(detectors=["eks"]) == {}
    version(kube, "v1.33.1-eks-1b3e656")
    assert await detected(detectors=["eks"]) == {"cloud.provider": "aws", "cloud.platform": "aws_eks"}
    got = await detected(detectors=["eks"], eks=on("host.id", "cloud.region", "host.name"))
    assert got == {k: {**EC2, "cloud.platform": "aws_eks"}[k] for k in got}
    assert set(got) == {"cloud.provider", "cloud.platform", "host.id", "cloud.region", "host.name"}


async def test_eks_without_metadata_service_asks_the_node_and_the_api(kube: FakeKube, server: Scripted) -> None:
    version(kube, "v1.33.1-eks-1b3e656")
    kube.put(NODES, {"metadata": {"name": "n1"}, "spec": {"providerID": "aws:///us-west-2a/i-9"}})
    server.answers["POST /ec2-api/"] = (
        '<R xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><reservationSet><item><ownerId>42</ownerId><instancesSet><item>'
        "<imageId>ami-9</imageId><instanceType>t3.small</instanceType><privateDnsName>ip-9</privateDnsName>"
        "<tagSet><item><key>kubernetes.io/cluster/prod</key><value>owned</value></item></tagSet>"
        "</item></instancesSet></item></reservationSet></R>"
    )
    every = on(*Config().eks.known)
    assert await detected(detectors=["eks"], eks=every) == {
        "cloud.provider": "aws",
        "cloud.platform": "aws_eks",
        "cloud.region": "us-west-2",
        "cloud.availability_zone": "us-west-2a",
        "cloud.account.id": "42",
        "host.id": "i-9",
        "host.image.id": "ami-9",
        "host.type": "t3.small",
        "host.name": "ip-9",
        "k8s.cluster.name": "prod",
    }


async def test_ecs(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await detected(detectors=["ecs"]) == {}
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", server.url + "/v4/abc")
    log = {"awslogs-group": "g", "awslogs-region": "eu-west-1", "awslogs-stream": "s"}
    other = {"DockerId": "d2", "Type": "NORMAL", "KnownStatus": "RUNNING", "LogDriver": "awslogs", "LogOptions": log}
    server.answers["/v4/abc"] = {"DockerId": "d1"}
    server.answers["/v4/abc/task"] = {
        "TaskARN": "arn:aws:ecs:eu-west-1:42:task/default/158d1",
        "Cluster": "default",
        "Family": "nginx",
        "Revision": "5",
        "AvailabilityZone": "eu-west-1a",
        "LaunchType": "FARGATE",
        "Containers": [{**other, "DockerId": "d1"}, other, {**other, "DockerId": "d3", "KnownStatus": "STOPPED"}, "x"],
    }
    assert await detected(detectors=["ecs"]) == {
        "cloud.provider": "aws",
        "cloud.platform": "aws_ecs",
        "cloud.account.id": "42",
        "cloud.region": "eu-west-1",
        "cloud.availability_zone": "eu-west-1a",
        "aws.ecs.cluster.arn": "arn:aws:ecs:eu-west-1:42:cluster/default",
        "aws.ecs.task.arn": "arn:aws:ecs:eu-west-1:42:task/default/158d1",
        "aws.ecs.task.family": "nginx",
        "aws.ecs.task.revision": "5",
        "aws.ecs.task.id": "158d1",
        "aws.ecs.launchtype": "fargate",
        "aws.log.group.names": ["g"],
        "aws.log.group.arns": ["arn:aws:logs:eu-west-1:42:log-group:g"],
        "aws.log.stream.names": ["s"],
        "aws.log.stream.arns": ["arn:aws:logs:eu-west-1:42:log-group:g:log-stream:s"],
    }


def google(server: Scripted, **values: str) -> None:
    """A metadata server of Google's: `instance_zone` is `instance/zone`; `attribute_x_y` is `instance/attributes/x-y`."""
    server.answers["/computeMetadata/v1/project/project-id"] = "my-project"
    for name, value in values.items():
        head, _, rest = name.partition("_")
        key = f"instance/attributes/{rest.replace('_', '-')}" if head == "attribute" else f"instance/{rest.replace('_', '-')}"
        server.answers[f"/computeMetadata/v1/{key}"] = value


async def test_compute_engine(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    google(
        server,
        instance_machine_type="projects/1/machineTypes/n1-standard-1",
        instance_zone="projects/1/zones/us-central1-c",
        instance_id="77",
        instance_name="vm",
        instance_hostname="vm.internal",
        attribute_created_by="projects/1/zones/us-central1-c/instanceGroupManagers/group",
    )
    want = {
        "cloud.provider": "gcp",
        "cloud.platform": "gcp_compute_engine",
        "cloud.account.id": "my-project",
        "cloud.region": "us-central1",
        "cloud.availability_zone": "us-central1-c",
        "host.id": "77",
        "host.name": "vm",
        "host.type": "projects/1/machineTypes/n1-standard-1",
        "gcp.gce.instance_group_manager.name": "group",
        "gcp.gce.instance_group_manager.zone": "us-central1-c",
    }
    assert await detected(detectors=["gce", "gcp"]) == want
    assert {r.headers.get("Metadata-Flavor") for r in server.requests} == {"Google"}
    server.answers["/computeMetadata/v1/instance/service-accounts/default/token"] = {"access_token": "tok"}
    server.answers["/compute/v1/projects/my-project/zones/us-central1-c/instances/vm"] = {"labels": {"team": "a", "x": "b"}}
    monkeypatch.setattr(gcp, "COMPUTE", server.url)
    assert await detected(detectors=["gcp"], gcp={"labels": ["^team$"]}) == {**want, "gcp.gce.instance.labels.team": "a"}
    assert server.requests[-1].headers["Authorization"] == "Bearer tok"


async def test_kubernetes_engine(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    google(server, attribute_cluster_location="europe-west1", attribute_cluster_name="prod", instance_id="77")
    assert await detected(detectors=["gcp"]) == {
        "cloud.provider": "gcp",
        "cloud.platform": "gcp_kubernetes_engine",
        "cloud.account.id": "my-project",
        "cloud.region": "europe-west1",
        "k8s.cluster.name": "prod",
        "host.id": "77",
    }


@pytest.mark.parametrize(
    ("environment", "want"),
    [
        (
            {"K_CONFIGURATION": "c", "K_SERVICE": "svc", "K_REVISION": "svc-1"},
            {"cloud.platform": "gcp_cloud_run", "faas.name": "svc", "faas.version": "svc-1", "faas.instance": "77"},
        ),
        (
            {"FUNCTION_TARGET": "f", "K_SERVICE": "fn", "K_REVISION": "2"},
            {"cloud.platform": "gcp_cloud_functions", "faas.name": "fn", "faas.version": "2", "faas.instance": "77"},
        ),
        (
            {"CLOUD_RUN_JOB": "job", "CLOUD_RUN_EXECUTION": "job-x", "CLOUD_RUN_TASK_INDEX": "0"},
            {
                "cloud.platform": "gcp_cloud_run",
                "faas.name": "job",
                "faas.instance": "77",
                "gcp.cloud_run.job.execution": "job-x",
                "gcp.cloud_run.job.task_index": "0",
            },
        ),
        (
            {"GAE_ENV": "standard", "GAE_SERVICE": "app", "GAE_VERSION": "v2", "GAE_INSTANCE": "i"},
            {
                "cloud.platform": "gcp_app_engine",
                "cloud.availability_zone": "us-east1-b",
                "faas.name": "app",
                "faas.version": "v2",
                "faas.instance": "i",
            },
        ),
    ],
)
async def test_serverless_of_google(
    server: Scripted, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], want: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    google(server, instance_region="projects/1/regions/us-east1", instance_zone="projects/1/zones/us-east1-b", instance_id="77")
    common = {"cloud.provider": "gcp", "cloud.account.id": "my-project", "cloud.region": "us-east1"}
    assert await detected(detectors=["gcp"]) == {**common, **want}


async def test_a_server_that_is_not_googles_is_not_believed(server: Scripted) -> None:
    async def other(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>captive portal</html>")

    server.answers["/computeMetadata/v1/project/project-id"] = other
    assert await detected(detectors=["gcp"]) == {}


async def test_azure(server: Scripted) -> None:
    server.answers["/metadata/instance/compute"] = COMPUTE
    got = await detected(detectors=["azure"], azure={"tags": ["team"], **on("cloud.availability_zone")})
    assert got == {
        "cloud.provider": "azure",
        "cloud.platform": "azure_vm",
        "cloud.region": "westeurope",
        "cloud.account.id": "sub-1",
        "cloud.availability_zone": "2",
        "host.name": "aks-pool-000",
        "host.id": "vm-1",
        "azure.vm.name": "aks-pool-0",
        "azure.vm.size": "Standard_D2",
        "azure.vm.scaleset.name": "set-1",
        "azure.resourcegroup.name": "MC_group_cluster_westeurope",
        "azure.tag.team": "a",
    }
    assert server.requests[0].headers["Metadata"] == "true" and "api-version" in server.requests[0].query


async def test_aks(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answers["/metadata/instance/compute"] = COMPUTE
    assert await detected(detectors=["aks"]) == {}
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    want = {"cloud.provider": "azure", "cloud.platform": "azure_aks"}
    assert await detected(detectors=["aks"]) == want
    assert await detected(detectors=["aks"], aks=on("k8s.cluster.name")) == {**want, "k8s.cluster.name": "cluster"}


@pytest.mark.parametrize(
    ("group", "want"),
    [("MC_g_c_eastus", "c"), ("mc_g_c_eastus", "c"), ("custom", "custom"), ("MC_g_a_b_eastus", "MC_g_a_b_eastus")],
)
def test_cluster_name_of_a_resource_group(group: str, want: str) -> None:
    assert azure.cluster_name(group) == want


async def test_docker_by_its_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripted = Scripted()
    path = tmp_path / "d.sock"
    runner = await _serve(scripted, lambda runner: web.UnixSite(runner, str(path)))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    monkeypatch.setattr(socket, "gethostname", lambda: "c0ffee")
    scripted.answers["/info"] = {"Name": "the-host", "OSType": "linux"}
    scripted.answers["/containers/c0ffee/json"] = {
        "Name": "/agent",
        "Image": "sha256:1",
        "Config": {"Image": "r:5000/kof/agent:1.2"},
    }
    try:
        assert await detected(detectors=["docker"]) == {"host.name": "the-host", "os.type": "linux"}
        got = await detected(detectors=["docker"], docker=on("container.name", "container.image.id", "container.image.tags"))
        assert got["container.name"] == "/agent" and got["container.image.id"] == "sha256:1"
        assert got["container.image.tags"] == ["1.2"]
    finally:
        await runner.cleanup()


async def test_kubeadm(kube: FakeKube) -> None:
    text = "apiVersion: kubeadm.k8s.io/v1beta4\nclusterName: prod\nkind: ClusterConfiguration\n"
    name = {"metadata": {"name": "kubeadm-config", "namespace": "kube-system"}, "data": {"ClusterConfiguration": text}}
    kube.put(CONFIGMAPS, name)
    kube.put(NAMESPACES, {"metadata": {"name": "kube-system", "uid": "cluster-uid"}})
    assert await detected(detectors=["kubeadm"]) == {"k8s.cluster.name": "prod", "k8s.cluster.uid": "cluster-uid"}
    kube.put(CONFIGMAPS, {**name, "data": {"ClusterConfiguration": "[1, 2"}})
    assert await detected(detectors=["kubeadm"]) == {}


async def test_kubeadm_is_asked_again_until_it_answers(kube: FakeKube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "FIRST_RETRY", 0.01)
    options = {"detectors": ["kubeadm"], "kubeadm": {"resource_attributes": {"k8s.cluster.name": {"enabled": False}}}}
    made, _ = processor(COMPONENT, options, Signal.LOGS)
    await made.start()
    assert made.detected == {}
    kube.put(NAMESPACES, {"metadata": {"name": "kube-system", "uid": "cluster-uid"}})
    await eventually(lambda: made.detected == {"k8s.cluster.uid": "cluster-uid"})
    await made.stop()


CLOUDS = ("ec2", "gcp", "azure")


@pytest.mark.parametrize("answer", [404, 500, "nonsense", b"\xff\xfe", "[1]", "{" * 5000])
async def test_answers_that_are_none_leave_out_the_clouds_and_nothing_else(
    server: Scripted, monkeypatch: pytest.MonkeyPatch, answer: Answer
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=1")
    for path in (
        "/latest/api/token",
        "/latest/dynamic/instance-identity/document",
        "/latest/meta-data/hostname",
        "/metadata/instance/compute",
    ):
        server.answers[path] = answer
    assert await detected(detectors=["env", *CLOUDS]) == {"a": "1"}


async def test_all_servers_are_asked_at_the_same_time(server: Scripted) -> None:
    asked: list[str] = []
    together = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        if len(asked) == len(CLOUDS):
            together.set()
        await together.wait()
        return web.Response(status=404)

    for path in ("/metadata/instance/compute", "/computeMetadata/v1/project/project-id", "/latest/api/token"):
        server.answers[path] = wait
    made, _ = processor(COMPONENT, {"detectors": list(CLOUDS), "timeout": "10s", "ec2": {"max_attempts": 1}}, Signal.LOGS)
    await made.start()
    assert {name: reason for name, reason in made._absent.items() if "404" not in reason} == {}
    await made.stop()


async def test_a_server_that_says_nothing_costs_its_own_attributes_only(server: Scripted) -> None:
    never = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    server.answers["/computeMetadata/v1/project/project-id"] = silent
    server.answers["/metadata/instance/compute"] = COMPUTE
    got = await detected(detectors=["gcp", "azure"], timeout="300ms")
    never.set()
    assert got["cloud.provider"] == "azure"


async def test_fail_on_missing_metadata(server: Scripted) -> None:
    with pytest.raises(StartError, match="the detector azure: the Azure metadata service answered 404"):
        await detected(detectors=["azure"], fail_on_missing_metadata=True)
    with pytest.raises(StartError, match="the detector ec2"):
        await detected(detectors=["ec2"], ec2={"fail_on_missing_metadata": True, "max_attempts": 1})


async def test_a_refresh_without_an_answer_keeps_what_was_known(server: Scripted) -> None:
    server.answers["/metadata/instance/compute"] = COMPUTE
    made, _ = processor(COMPONENT, {"detectors": ["azure"]}, Signal.LOGS)
    await made.start()
    before = dict(made.detected)
    server.answers.clear()
    assert await made._detect() == before and before
    await made.stop()
