"""Keys of the chart `helm/kofagent` that no collector reads: how the workloads run. Spellings are those of Kubernetes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from kofagent.config.base import ByteSize, ComponentConfig

# ruff: noqa: N815


class SubChart(ComponentConfig):
    """Base of blocks that upstream takes from other charts. Their other keys are allowed; NOTES.txt names those without effect."""

    model_config = ConfigDict(extra="allow")


class Image(SubChart):
    """An image; `digest` takes precedence over `tag`."""

    registry: str = Field("", description="Host of the registry; global.imageRegistry overrides it for all images.")
    repository: str = Field("", description="Repository of the image.")
    tag: str = Field("", description="Tag; empty: the version that the chart was tested with.")
    digest: str = Field("", description="Digest (sha256:...) that pins the image.")
    fullImageName: str | None = Field(None, description="OpenCost only: the full image reference, instead of the parts.")
    pullPolicy: Literal["Always", "IfNotPresent", "Never"] = Field("IfNotPresent", description="When the kubelet pulls the image.")


class Queues(ComponentConfig):
    """`queues` of a role: the sending queues of the exporters to KOF's storage."""

    enabled: bool = Field(True, description="Keep them in the volume `state`, where they outlive a restart; otherwise in memory.")
    maxSize: ByteSize = Field(256 << 20, ge=1 << 20, description="Most bytes that the queue of an exporter takes.")


class Workload(ComponentConfig):
    """`kofagent.node`, `kofagent.k8scluster`: the pods of a role."""

    resources: dict[str, Any] = Field({}, description="Requests and limits of the container.")
    priorityClassName: str = Field("", description="Priority class of the pods.")
    tolerations: list[dict[str, Any]] = Field([], description="Tolerations of the pods.")
    nodeSelector: dict[str, str] = Field({}, description="Labels of the nodes that the pods run on.")
    affinity: dict[str, Any] = Field({}, description="Affinity of the pods.")
    updateStrategy: dict[str, Any] = Field({}, description="updateStrategy of the DaemonSet, strategy of the Deployment.")
    podLabels: dict[str, str] = Field({}, description="Additional labels of the pods.")
    podAnnotations: dict[str, str] = Field({}, description="Additional annotations of the pods.")
    podSecurityContext: dict[str, Any] = Field({}, description="Merged over the chart's securityContext of the pods.")
    serviceAccountAnnotations: dict[str, str] = Field(
        {}, description="Annotations of the ServiceAccount, such as eks.amazonaws.com/role-arn."
    )
    state: dict[str, Any] = Field(
        {}, description="Volume source for positions and queues; default: a directory of the node (node), an emptyDir (k8scluster)."
    )
    queues: Queues = Field(Queues(), description="Sending queues in `state`.")
    volumes: list[dict[str, Any]] = Field([], description="Additional volumes of the pods.")
    volumeMounts: list[dict[str, Any]] = Field([], description="Additional volume mounts of the container.")
    hostNetwork: bool = Field(False, description="Use the node's network.")
    terminationGracePeriodSeconds: int = Field(30, ge=1, description="Seconds to send what is queued when a pod stops.")
    probes: dict[str, Any] = Field({}, description="startupProbe, readinessProbe and livenessProbe; null removes one.")


class Persistence(ComponentConfig):
    """`kofagent.k8scluster.persistence`: a PersistentVolumeClaim for what the agent keeps across restarts."""

    enabled: bool = Field(False, description="Keep it when the pod is replaced, not only when its container restarts.")
    existingClaim: str = Field("", description="Name of an existing claim; empty: the chart creates one.")
    storageClass: str = Field("", description='Storage class of the claim; empty: the cluster\'s default; "-": none.')
    accessModes: list[str] = Field(["ReadWriteOnce"], min_length=1, description="Access modes of the claim.")
    size: str = Field("1Gi", description="Size of the claim.")
    annotations: dict[str, str] = Field({}, description="Annotations of the claim, such as helm.sh/resource-policy: keep.")


class ClusterWorkload(Workload):
    """`kofagent.k8scluster`."""

    persistence: Persistence = Field(Persistence(), description="A volume that outlives the pod, instead of `state`.")


class SecretAccess(ComponentConfig):
    """Secrets that ServiceMonitors, PodMonitors and similar objects reference."""

    namespace: str = Field(description="Namespace of the Secrets.")
    names: list[str] = Field(min_length=1, description="Names of the Secrets.")
    configMaps: list[str] = Field([], description="Names of ConfigMaps with certificates that they reference.")


class NetworkPolicy(ComponentConfig):
    """`kofagent.networkPolicy`: who may connect to the pods of this chart."""

    enabled: bool = Field(False, description="Create NetworkPolicy objects.")
    otlpFrom: list[dict[str, Any]] = Field([], description="Peers that may send OTLP; empty: everybody.")
    metricsFrom: list[dict[str, Any]] = Field(
        [], description="Peers that may read metrics and the targets API, in addition to the release's namespace."
    )


class Agent(ComponentConfig):
    """`kofagent`: how the agents run."""

    image: Image = Field(Image(), description="The agent's image.")
    imagePullSecrets: list[dict[str, str]] = Field([], description="Pull secrets of the registry.")
    generation: str = Field(
        "",
        pattern=r"^(|0\.1\.1|0\.3\.0|1\.[0-9]+(\.[0-9]+)?)$",
        description="Version of KOF that the values are for: 0.1.1, 0.3.0, or 1.2 to 1.11; empty: as their keys say, the newest.",
    )
    onePerNode: bool = Field(
        True, description="KOF 1.2 and later: the collectors of the same nodes run in one pod; otherwise each has a DaemonSet."
    )
    monitors: Literal["auto", "objects", "jobs", "none"] = Field(
        "auto",
        description="How node-exporter, kube-state-metrics and OpenCost are discovered: by ServiceMonitor objects, by jobs "
        "of the agents, by objects where the cluster has the CRD (auto), or not at all.",
    )
    secretAccess: list[SecretAccess] = Field(
        [], description="Secrets that the agents may read in addition to their own credentials."
    )
    denyFiles: bool = Field(
        True, description="Refuse monitors that name files of the agents, such as the token of their account (monitors.deny_files)."
    )
    networkPolicy: NetworkPolicy = Field(NetworkPolicy(), description="Who may connect to the pods.")
    node: Workload = Field(Workload(), description="The DaemonSet.")
    k8scluster: ClusterWorkload = Field(ClusterWorkload(), description="The Deployment.")


class MonitorEndpoint(SubChart):
    """How one port is scraped."""

    honorLabels: bool = Field(False, description="Labels of the page take precedence over those of the target.")
    interval: str = Field("", description="Scrape interval.")
    scrapeTimeout: str = Field("", description="Scrape timeout.")
    relabelings: list[dict[str, Any]] = Field([], description="Relabeling rules of the target.")
    metricRelabelings: list[dict[str, Any]] = Field([], description="Relabeling rules of its series.")


class Monitor(MonitorEndpoint):
    """`prometheus.monitor`."""

    enabled: bool = Field(True, description="Scrape it.")
    jobLabel: str = Field("", description="Label of the Service whose value becomes the job.")
    additionalLabels: dict[str, str] = Field({}, description="Additional labels of the ServiceMonitor.")
    http: MonitorEndpoint = Field(MonitorEndpoint(), description="kube-state-metrics: its metrics of the cluster.")
    metrics: MonitorEndpoint = Field(MonitorEndpoint(), description="kube-state-metrics: metrics of its own process.")
    sampleLimit: int = Field(0, ge=0, description="Largest number of samples of a page; 0: no limit.")
    targetLimit: int = Field(0, ge=0, description="Largest number of targets; 0: no limit.")
    labelLimit: int = Field(0, ge=0, description="Largest number of labels of a series; 0: no limit.")
    labelNameLengthLimit: int = Field(0, ge=0, description="Longest label name in bytes; 0: no limit.")
    labelValueLengthLimit: int = Field(0, ge=0, description="Longest label value in bytes; 0: no limit.")


class Monitored(SubChart):
    """`prometheus`."""

    monitor: Monitor = Field(Monitor(), description="How it is scraped.")


class PartService(SubChart):
    """`service`."""

    labels: dict[str, str] = Field({}, description="Additional labels of the Service.")
    annotations: dict[str, str] = Field({}, description="Annotations of the Service.")


class ExporterService(PartService):
    """`service` of node-exporter."""

    port: int = Field(9100, ge=1, le=65535, description="Port of the container, and of the Service.")
    servicePort: int | Literal[""] = Field("", description="Port of the Service, if it differs.")


class StateService(PartService):
    """`service` of kube-state-metrics."""

    port: int = Field(8080, ge=1, le=65535, description="Port of the Service and of the container.")


class Account(SubChart):
    """`serviceAccount`."""

    annotations: dict[str, str] = Field({}, description="Annotations, such as eks.amazonaws.com/role-arn.")


class Pods(SubChart):
    """What the pods of other charts share."""

    enabled: bool = Field(True, description="Run it.")
    imagePullSecrets: list[dict[str, str]] = Field([], description="Pull secrets of its registry.")
    podLabels: dict[str, str] = Field({}, description="Additional labels of its pods.")
    podAnnotations: dict[str, str] = Field({}, description="Annotations of its pods.")
    priorityClassName: str | None = Field("", description="Priority class of its pods.")
    serviceAccount: Account = Field(Account(), description="Its ServiceAccount.")


class Exporter(Pods):
    """What node-exporter and kube-state-metrics share."""

    image: Image = Field(Image(), description="Its image.")
    extraArgs: list[str] = Field([], description="Additional flags.")
    resources: dict[str, Any] = Field({}, description="Requests and limits.")
    tolerations: list[dict[str, Any]] = Field([], description="Tolerations of its pods.")
    nodeSelector: dict[str, str] = Field({}, description="Labels of the nodes that it runs on.")
    affinity: dict[str, Any] = Field({}, description="Affinity of its pods.")
    prometheus: Monitored = Field(Monitored(), description="How it is scraped.")


class HostRoot(SubChart):
    """`hostRootFsMount`."""

    enabled: bool = Field(True, description="Mount the node's root read-only, to report its file systems.")
    mountPropagation: str | None = Field(
        "HostToContainer", description="Propagates later mounts; empty where the node's root is not a shared mount."
    )


class HostMount(SubChart):
    """An entry of `extraHostVolumeMounts`; always read-only."""

    name: str = Field(description="Name of the volume.")
    hostPath: str = Field(description="Directory of the node.")
    mountPath: str = Field(description="Mount path in the container.")
    mountPropagation: str | None = Field(None, description="Propagates later mounts.")


class NodeExporter(Exporter):
    """`prometheus-node-exporter`."""

    hostRootFsMount: HostRoot = Field(HostRoot(), description="Mount of the node's root.")
    hostNetwork: bool = Field(False, description="Use the node's network.")
    hostPID: bool = Field(True, description="Use the node's process namespace.")
    extraHostVolumeMounts: list[HostMount] = Field([], description="Additional directories of the node, mounted read-only.")
    env: dict[str, Any] = Field({}, description="Environment variables by name.")
    updateStrategy: dict[str, Any] = Field({}, description="updateStrategy of the DaemonSet.")
    service: ExporterService = Field(ExporterService(), description="Its Service.")


class CustomState(SubChart):
    """`customResourceState`."""

    enabled: bool = Field(False, description="Report custom resources.")
    config: dict[str, Any] = Field({}, description="Configuration of kube-state-metrics for them.")


class StateRules(SubChart):
    """`rbac`."""

    extraRules: list[dict[str, Any]] = Field([], description="RBAC rules for what customResourceState reads.")


class SelfMonitor(SubChart):
    """`selfMonitor`."""

    enabled: bool = Field(True, description="Scrape the metrics of its own process.")
    telemetryPort: int = Field(8081, ge=1, le=65535, description="Port of these metrics.")


class StateMetrics(Exporter):
    """`kube-state-metrics`."""

    collectors: list[str] = Field([], description="Resources that it reports; each adds its RBAC rule.")
    metricLabelsAllowlist: list[str] = Field([], description="Labels that it reports.")
    metricAnnotationsAllowList: list[str] = Field([], description="Annotations that it reports.")
    metricAllowlist: list[str] = Field([], description="Only these metrics.")
    metricDenylist: list[str] = Field([], description="Not these metrics.")
    namespaces: str | list[str] = Field("", description="Only these namespaces, comma-separated or a list.")
    namespacesDenylist: str | list[str] = Field("", description="Not these namespaces.")
    releaseNamespace: bool = Field(False, description="Only the release's namespace, and `namespaces`.")
    customResourceState: CustomState = Field(CustomState(), description="Metrics of custom resources.")
    rbac: StateRules = Field(StateRules(), description="Additional RBAC rules.")
    selfMonitor: SelfMonitor = Field(SelfMonitor(), description="Its own metrics.")
    prometheusScrape: bool = Field(True, description="Annotate the Service with prometheus.io/scrape.")
    service: StateService = Field(StateService(), description="Its Service.")


class Enabled(SubChart):
    """`{enabled: ...}`."""

    enabled: bool = Field(False, description="Turns it on.")


class CostExternal(Enabled):
    """`external`."""

    url: str = Field("", description="URL of the query API of the storage.")


class CostInternal(Enabled):
    """`internal`."""

    serviceName: str = Field("", description="Service of the storage.")
    namespaceName: str = Field("", description="Its namespace.")
    port: int = Field(80, ge=1, le=65535, description="Its port.")


class CostPrometheus(SubChart):
    """`opencost.opencost.prometheus`."""

    existingSecretName: str | None = Field("", description="Secret with user name and password; empty: no login.")
    username_key: str = Field("username", description="Key of the user name.")
    password_key: str = Field("password", description="Key of the password.")
    bearer_token_key: str = Field("", description="Key of a token, if there is no password_key.")
    external: CostExternal = Field(CostExternal(), description="A storage addressed by URL.")
    internal: CostInternal = Field(CostInternal(), description="A storage addressed by its Service.")


class CostMonitor(MonitorEndpoint):
    """`opencost.opencost.metrics.serviceMonitor`."""

    enabled: bool = Field(False, description="Scrape it.")
    honorLabels: bool = Field(True, description="Labels of the page take precedence over those of the target.")
    scrapeInterval: str = Field("", description="Scrape interval.")
    additionalLabels: dict[str, str] = Field({}, description="Additional labels of the ServiceMonitor.")


class CostMetrics(SubChart):
    """`opencost.opencost.metrics`."""

    serviceMonitor: CostMonitor = Field(CostMonitor(), description="How it is scraped.")


class CostExporter(SubChart):
    """`opencost.opencost.exporter`."""

    apiPort: int = Field(9003, ge=1, le=65535, description="Port of its API and its metrics.")
    defaultClusterId: str = Field("", description="Name of the cluster in its series.")
    extraArgs: list[str] = Field([], description="Additional flags, without the dashes.")
    env: list[dict[str, Any]] = Field([], description="Entries of the container's environment.")
    extraEnv: dict[str, Any] = Field({}, description="Environment variables by name.")
    extraVolumeMounts: list[dict[str, Any]] = Field([], description="Volume mounts of extraVolumes.")
    image: Image = Field(Image(), description="Its image.")
    resources: dict[str, Any] = Field({}, description="Requests and limits.")


class CostPricing(Enabled):
    """`opencost.opencost.customPricing`."""

    configmapName: str = Field("", description="ConfigMap with the prices.")
    configPath: str = Field("", description="Directory where OpenCost reads them.")
    createConfigmap: bool = Field(True, description="Create it from costModel.")
    provider: str = Field("custom", description="Provider of the prices.")
    costModel: dict[str, Any] = Field({}, description="The prices.")


class OpenCost(SubChart):
    """`opencost.opencost`."""

    prometheus: CostPrometheus = Field(CostPrometheus(), description="The storage that it queries.")
    metrics: CostMetrics = Field(CostMetrics(), description="How it is scraped.")
    exporter: CostExporter = Field(CostExporter(), description="Its container.")
    customPricing: CostPricing = Field(CostPricing(), description="Custom prices.")
    cloudIntegrationSecret: str | None = Field("", description="Secret with cloud-integration.json.")
    cloudCost: Enabled = Field(Enabled(), description="Costs as billed by the cloud.")
    tolerations: list[dict[str, Any]] = Field([], description="Tolerations of its pod.")
    nodeSelector: dict[str, str] = Field({}, description="Labels of the nodes that it runs on.")
    affinity: dict[str, Any] = Field({}, description="Affinity of its pod.")


class OpenCostChart(Pods):
    """`opencost`."""

    loglevel: str = Field("info", description="Log level.")
    extraVolumes: list[dict[str, Any]] = Field([], description="Additional volumes of its pod.")
    service: PartService = Field(PartService(), description="Its Service.")
    opencost: OpenCost = Field(OpenCost(), description="OpenCost.")


class KcmMonitor(SubChart):
    """`kcm.serviceMonitor`."""

    selector: dict[str, Any] = Field({}, description="Selector of the Service of KCM's controller manager.")


class Kcm(SubChart):
    """`kcm`."""

    monitoring: bool = Field(False, description="Scrape KCM's controllers.")
    namespace: str = Field("kcm-system", description="Namespace of KCM.")
    serviceMonitor: KcmMonitor = Field(KcmMonitor(), description="Its ServiceMonitor.")
