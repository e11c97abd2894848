"""Keys of the chart `helm/kofagent` that no collector reads: how the workloads run. Options as Kubernetes spells them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from kofagent.config.base import ComponentConfig

# ruff: noqa: N815


class SubChart(ComponentConfig):
    """Base of what upstream takes from other charts: their other keys are allowed; NOTES.txt names those without effect."""

    model_config = ConfigDict(extra="allow")


class Image(SubChart):
    """An image; `digest` wins over `tag`."""

    registry: str = Field("", description="Host of the registry; global.imageRegistry replaces it everywhere.")
    repository: str = Field("", description="Path of the image.")
    tag: str = Field("", description="Tag; empty: the version the chart was tested with.")
    digest: str = Field("", description="sha256:...; fixes the image.")
    fullImageName: str | None = Field(None, description="OpenCost's: the whole reference, instead of the parts.")
    pullPolicy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="When the kubelet pulls it.")


class Workload(ComponentConfig):
    """`kofagent.node`, `kofagent.k8scluster`: the pods of a role."""

    resources: dict[str, Any] = Field({}, description="Requests and limits of the container.")
    priorityClassName: str = Field("", description="Priority of the pods.")
    tolerations: list[dict[str, Any]] = Field([], description="Taints the pods stand.")
    nodeSelector: dict[str, str] = Field({}, description="Labels of the nodes they run on.")
    affinity: dict[str, Any] = Field({}, description="Affinity of the pods.")
    updateStrategy: dict[str, Any] = Field({}, description="updateStrategy of the DaemonSet, strategy of the Deployment.")
    podLabels: dict[str, str] = Field({}, description="More labels of the pods.")
    podAnnotations: dict[str, str] = Field({}, description="More annotations of the pods.")
    podSecurityContext: dict[str, Any] = Field({}, description="Over the chart's securityContext of the pods.")
    serviceAccountAnnotations: dict[str, str] = Field({}, description="Such as eks.amazonaws.com/role-arn.")
    state: dict[str, Any] = Field({}, description="Volume source of /var/lib/otelcol/file_storage.")
    volumes: list[dict[str, Any]] = Field([], description="More volumes.")
    volumeMounts: list[dict[str, Any]] = Field([], description="More mounts of the container.")
    hostNetwork: bool = Field(False, description="Run in the node's network.")
    terminationGracePeriodSeconds: int = Field(30, ge=1, description="Time to send what is queued.")
    probes: dict[str, Any] = Field({}, description="startupProbe, readinessProbe, livenessProbe; null leaves one out.")


class Persistence(ComponentConfig):
    """`kofagent.k8scluster.persistence`: a PersistentVolumeClaim for what the agent keeps over restarts."""

    enabled: bool = Field(False, description="Keep it over the pod's replacement, not only over a restart of its container.")
    existingClaim: str = Field("", description="Name of a claim that is there already; empty: the chart makes one.")
    storageClass: str = Field("", description='Storage class of the claim; empty: the cluster\'s default, "-": none.')
    accessModes: list[str] = Field(["ReadWriteOnce"], min_length=1, description="Access modes of the claim.")
    size: str = Field("1Gi", description="Size of the claim.")
    annotations: dict[str, str] = Field({}, description="Annotations of the claim, such as helm.sh/resource-policy: keep.")


class ClusterWorkload(Workload):
    """`kofagent.k8scluster`."""

    persistence: Persistence = Field(Persistence(), description="A volume that outlives the pod, instead of `state`.")


class SecretAccess(ComponentConfig):
    """Secrets that ServiceMonitors, PodMonitors and the like name."""

    namespace: str = Field(description="Where they are.")
    names: list[str] = Field(min_length=1, description="Their names.")
    configMaps: list[str] = Field([], description="ConfigMaps they name, for certificates.")


class Agent(ComponentConfig):
    """`kofagent`: how the agents run."""

    image: Image = Field(Image(), description="The agent's image.")
    imagePullSecrets: list[dict[str, str]] = Field([], description="Secrets of the registry.")
    generation: Literal["", "0.1.1", "0.3.0"] = Field("", description="Generation of the values; empty: 0.3.0.")
    monitors: Literal["auto", "objects", "jobs", "none"] = Field(
        "auto",
        description="How node-exporter, kube-state-metrics and OpenCost are found: ServiceMonitor objects, the agents' own "
        "jobs, objects where the cluster has the CRD (auto), or not at all.",
    )
    secretAccess: list[SecretAccess] = Field([], description="Secrets the agents may read besides their own credentials.")
    node: Workload = Field(Workload(), description="The DaemonSet.")
    k8scluster: ClusterWorkload = Field(ClusterWorkload(), description="The Deployment.")


class MonitorEndpoint(SubChart):
    """How one port is scraped."""

    honorLabels: bool = Field(False, description="Labels of the page win over the target's.")
    interval: str = Field("", description="How often.")
    scrapeTimeout: str = Field("", description="How long an answer may take.")
    relabelings: list[dict[str, Any]] = Field([], description="Relabeling of the target.")
    metricRelabelings: list[dict[str, Any]] = Field([], description="Relabeling of its series.")


class Monitor(MonitorEndpoint):
    """`prometheus.monitor`."""

    enabled: bool = Field(True, description="Scrape it.")
    jobLabel: str = Field("", description="Label of the Service whose value is the job.")
    additionalLabels: dict[str, str] = Field({}, description="More labels of the ServiceMonitor.")
    http: MonitorEndpoint = Field(MonitorEndpoint(), description="kube-state-metrics: its page of the cluster.")
    metrics: MonitorEndpoint = Field(MonitorEndpoint(), description="kube-state-metrics: its page of itself.")
    sampleLimit: int = Field(0, ge=0, description="Samples of a page; 0: any number.")
    targetLimit: int = Field(0, ge=0, description="Targets; 0: any number.")
    labelLimit: int = Field(0, ge=0, description="Labels of a series; 0: any number.")
    labelNameLengthLimit: int = Field(0, ge=0, description="Bytes of a label's name; 0: any number.")
    labelValueLengthLimit: int = Field(0, ge=0, description="Bytes of a label's value; 0: any number.")


class Monitored(SubChart):
    """`prometheus`."""

    monitor: Monitor = Field(Monitor(), description="How it is scraped.")


class PartService(SubChart):
    """`service`."""

    labels: dict[str, str] = Field({}, description="More labels of the Service.")
    annotations: dict[str, str] = Field({}, description="Annotations of the Service.")


class ExporterService(PartService):
    """`service` of node-exporter."""

    port: int = Field(9100, ge=1, le=65535, description="Port of the container, and of the Service.")
    servicePort: int | Literal[""] = Field("", description="Port of the Service, if it is another.")


class StateService(PartService):
    """`service` of kube-state-metrics."""

    port: int = Field(8080, ge=1, le=65535, description="Port of the Service and of the container.")


class Account(SubChart):
    """`serviceAccount`."""

    annotations: dict[str, str] = Field({}, description="Such as eks.amazonaws.com/role-arn.")


class Pods(SubChart):
    """What pods of other charts share."""

    enabled: bool = Field(True, description="Run it.")
    imagePullSecrets: list[dict[str, str]] = Field([], description="Secrets of its registry.")
    podLabels: dict[str, str] = Field({}, description="More labels of its pods.")
    podAnnotations: dict[str, str] = Field({}, description="Annotations of its pods.")
    priorityClassName: str | None = Field("", description="Priority of its pods.")
    serviceAccount: Account = Field(Account(), description="Its ServiceAccount.")


class Exporter(Pods):
    """What node-exporter and kube-state-metrics share."""

    image: Image = Field(Image(), description="Its image.")
    extraArgs: list[str] = Field([], description="More flags.")
    resources: dict[str, Any] = Field({}, description="Requests and limits.")
    tolerations: list[dict[str, Any]] = Field([], description="Taints its pods stand.")
    nodeSelector: dict[str, str] = Field({}, description="Labels of the nodes it runs on.")
    affinity: dict[str, Any] = Field({}, description="Affinity of its pods.")
    prometheus: Monitored = Field(Monitored(), description="How it is scraped.")


class HostRoot(SubChart):
    """`hostRootFsMount`."""

    enabled: bool = Field(True, description="Mount the node's root, read-only, for its file systems.")
    mountPropagation: str | None = Field(
        "HostToContainer", description="Also what is mounted later; empty where the node's root is not a shared mount."
    )


class HostMount(SubChart):
    """An entry of `extraHostVolumeMounts`; always read-only."""

    name: str = Field(description="Name of the volume.")
    hostPath: str = Field(description="Folder of the node.")
    mountPath: str = Field(description="Where the container sees it.")
    mountPropagation: str | None = Field(None, description="Also what is mounted later.")


class NodeExporter(Exporter):
    """`prometheus-node-exporter`."""

    hostRootFsMount: HostRoot = Field(HostRoot(), description="The node's root.")
    hostNetwork: bool = Field(False, description="Run in the node's network.")
    hostPID: bool = Field(True, description="See the node's processes.")
    extraHostVolumeMounts: list[HostMount] = Field([], description="More folders of the node, read-only.")
    env: dict[str, Any] = Field({}, description="Environment, name and value.")
    updateStrategy: dict[str, Any] = Field({}, description="updateStrategy of the DaemonSet.")
    service: ExporterService = Field(ExporterService(), description="Its Service.")


class CustomState(SubChart):
    """`customResourceState`."""

    enabled: bool = Field(False, description="Report custom resources.")
    config: dict[str, Any] = Field({}, description="kube-state-metrics' own configuration of them.")


class StateRules(SubChart):
    """`rbac`."""

    extraRules: list[dict[str, Any]] = Field([], description="Rules for what customResourceState reads.")


class SelfMonitor(SubChart):
    """`selfMonitor`."""

    enabled: bool = Field(True, description="Scrape what it tells of itself.")
    telemetryPort: int = Field(8081, ge=1, le=65535, description="Port of that page.")


class StateMetrics(Exporter):
    """`kube-state-metrics`."""

    collectors: list[str] = Field([], description="Resources it reports; each gets its rule.")
    metricLabelsAllowlist: list[str] = Field([], description="Labels it reports.")
    metricAnnotationsAllowList: list[str] = Field([], description="Annotations it reports.")
    metricAllowlist: list[str] = Field([], description="Only these metrics.")
    metricDenylist: list[str] = Field([], description="Not these metrics.")
    namespaces: str | list[str] = Field("", description="Only these namespaces, comma-separated or a list.")
    namespacesDenylist: str | list[str] = Field("", description="Not these namespaces.")
    releaseNamespace: bool = Field(False, description="Only the release's namespace, and `namespaces`.")
    customResourceState: CustomState = Field(CustomState(), description="Metrics of custom resources.")
    rbac: StateRules = Field(StateRules(), description="Its rights.")
    selfMonitor: SelfMonitor = Field(SelfMonitor(), description="Its own metrics.")
    prometheusScrape: bool = Field(True, description="Annotate the Service with prometheus.io/scrape.")
    service: StateService = Field(StateService(), description="Its Service.")


class Enabled(SubChart):
    """`{enabled: ...}`."""

    enabled: bool = Field(False, description="Switch it on.")


class CostExternal(Enabled):
    """`external`."""

    url: str = Field("", description="URL of the storage's query API.")


class CostInternal(Enabled):
    """`internal`."""

    serviceName: str = Field("", description="Service of the storage.")
    namespaceName: str = Field("", description="Its namespace.")
    port: int = Field(80, ge=1, le=65535, description="Its port.")


class CostPrometheus(SubChart):
    """`opencost.opencost.prometheus`."""

    existingSecretName: str | None = Field("", description="Secret with the user's name and password; empty: no login.")
    username_key: str = Field("username", description="Key of the name.")
    password_key: str = Field("password", description="Key of the password.")
    bearer_token_key: str = Field("", description="Key of a token, when there is no password_key.")
    external: CostExternal = Field(CostExternal(), description="A storage by URL.")
    internal: CostInternal = Field(CostInternal(), description="A storage by its Service.")


class CostMonitor(MonitorEndpoint):
    """`opencost.opencost.metrics.serviceMonitor`."""

    enabled: bool = Field(False, description="Scrape it.")
    honorLabels: bool = Field(True, description="Labels of the page win over the target's.")
    scrapeInterval: str = Field("", description="How often.")
    additionalLabels: dict[str, str] = Field({}, description="More labels of the ServiceMonitor.")


class CostMetrics(SubChart):
    """`opencost.opencost.metrics`."""

    serviceMonitor: CostMonitor = Field(CostMonitor(), description="How it is scraped.")


class CostExporter(SubChart):
    """`opencost.opencost.exporter`."""

    apiPort: int = Field(9003, ge=1, le=65535, description="Port of its API and its metrics.")
    defaultClusterId: str = Field("", description="Name of the cluster in its series.")
    extraArgs: list[str] = Field([], description="More flags, without the dashes.")
    env: list[dict[str, Any]] = Field([], description="Entries of the container's environment.")
    extraEnv: dict[str, Any] = Field({}, description="Environment, name and value.")
    extraVolumeMounts: list[dict[str, Any]] = Field([], description="Mounts of extraVolumes.")
    image: Image = Field(Image(), description="Its image.")
    resources: dict[str, Any] = Field({}, description="Requests and limits.")


class CostPricing(Enabled):
    """`opencost.opencost.customPricing`."""

    configmapName: str = Field("", description="ConfigMap with the prices.")
    configPath: str = Field("", description="Where OpenCost reads them.")
    createConfigmap: bool = Field(True, description="Make it of costModel.")
    provider: str = Field("custom", description="Whose prices they are.")
    costModel: dict[str, Any] = Field({}, description="The prices.")


class OpenCost(SubChart):
    """`opencost.opencost`."""

    prometheus: CostPrometheus = Field(CostPrometheus(), description="Where it reads series.")
    metrics: CostMetrics = Field(CostMetrics(), description="How it is scraped.")
    exporter: CostExporter = Field(CostExporter(), description="The process.")
    customPricing: CostPricing = Field(CostPricing(), description="Prices of one's own.")
    cloudIntegrationSecret: str | None = Field("", description="Secret with cloud-integration.json.")
    cloudCost: Enabled = Field(Enabled(), description="Bills of the cloud.")
    tolerations: list[dict[str, Any]] = Field([], description="Taints its pod stands.")
    nodeSelector: dict[str, str] = Field({}, description="Labels of the nodes it runs on.")
    affinity: dict[str, Any] = Field({}, description="Affinity of its pod.")


class OpenCostChart(Pods):
    """`opencost`."""

    loglevel: str = Field("info", description="How much it says.")
    extraVolumes: list[dict[str, Any]] = Field([], description="More volumes of its pod.")
    service: PartService = Field(PartService(), description="Its Service.")
    opencost: OpenCost = Field(OpenCost(), description="OpenCost.")


class KcmMonitor(SubChart):
    """`kcm.serviceMonitor`."""

    selector: dict[str, Any] = Field({}, description="What selects the Service of KCM's controller manager.")


class Kcm(SubChart):
    """`kcm`."""

    monitoring: bool = Field(False, description="Scrape KCM's controllers.")
    namespace: str = Field("kcm-system", description="Where KCM is.")
    serviceMonitor: KcmMonitor = Field(KcmMonitor(), description="How they are found.")
