{{/*
What node-exporter, kube-state-metrics and OpenCost share: labels, placement, and how they are scraped, as ServiceMonitor objects
or as jobs of the agents' own where the cluster does not know those. Keys are those of the charts upstream takes them from.
*/}}

{{/* Labels of a workload of ours that stands for another chart's: (dict "root" . "part" "kube-state-metrics"). */}}
{{- define "kofagent.partSelector" -}}
app.kubernetes.io/name: {{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Labels of such a workload's pods: (dict "root" . "part" p "labels" l). */}}
{{- define "kofagent.partLabels" -}}
{{ include "kofagent.partSelector" . }}
{{ include "kofagent.labels" .root }}
{{- with .labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Where a workload's pods run, of its values. */}}
{{- define "kofagent.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" }}
{{- with index $.values $key }}
{{ $key }}:
  {{- if kindIs "string" . }} {{ . }}{{ else }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}
{{- with concat (.root.Values.kofagent.imagePullSecrets | default list) (((.root.Values).global).imagePullSecrets | default list) (.pullSecrets | default list) }}
imagePullSecrets:
  {{- range . }}
  - {name: {{ ternary . (get (kindIs "map" . | ternary . dict) "name") (kindIs "string" .) | quote }}}
  {{- end }}
{{- end }}
{{- end }}

{{/*
How a part is scraped, as JSON: (dict "root" . "part" "opencost"). `jobLabel` names the label of its Service that holds the job, as in
a ServiceMonitor; `endpoints` has one entry a port, in a ServiceMonitor's spelling. Empty: not at all.
*/}}
{{- define "kofagent.scrape" -}}
{{- $values := index .root.Values .part -}}
{{- $out := dict "endpoints" list "limits" dict -}}
{{- if eq .part "opencost" -}}
  {{- $monitor := ($values.opencost.metrics).serviceMonitor | default dict -}}
  {{- $endpoint := dict "port" "http" "honorLabels" (ne (toString $monitor.honorLabels) "false") -}}
  {{- $_ := set $endpoint "interval" ($monitor.scrapeInterval | default "") -}}
  {{- $_ := set $out "endpoints" (ternary (list (merge $endpoint (pick $monitor "scrapeTimeout" "relabelings" "metricRelabelings"))) list (eq (toString $monitor.enabled) "true")) -}}
  {{- $_ := set $out "additionalLabels" ($monitor.additionalLabels | default dict) -}}
{{- else -}}
  {{- $monitor := ($values.prometheus).monitor | default dict -}}
  {{- $keys := list "interval" "scrapeTimeout" "relabelings" "metricRelabelings" -}}
  {{- if eq (toString $monitor.enabled) "true" -}}
    {{- if eq .part "prometheus-node-exporter" -}}
      {{- /* as upstream's ServiceMonitor, whatever http.honorLabels says: `nodename` is the node's name, also in node_uname_info */ -}}
      {{- $_ := set $out "endpoints" (list (merge (dict "port" "metrics" "honorLabels" false) (pick $monitor "interval" "scrapeTimeout" "relabelings" "metricRelabelings"))) -}}
    {{- else -}}
      {{- range $port := ternary (list "http" "metrics") (list "http") (eq (toString ($values.selfMonitor).enabled) "true") -}}
        {{- $own := index $monitor $port | default dict -}}
        {{- $endpoint := dict "port" $port "honorLabels" (eq (toString (or $own.honorLabels $monitor.honorLabels)) "true") -}}
        {{- range $key := $keys -}}
          {{- with index $own $key | default (index $monitor $key) -}}
            {{- $_ := set $endpoint $key . -}}
          {{- end -}}
        {{- end -}}
        {{- $_ := set $out "endpoints" (append $out.endpoints $endpoint) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $out "jobLabel" ($monitor.jobLabel | default (ternary "jobLabel" "app.kubernetes.io/name" (eq .part "prometheus-node-exporter"))) -}}
  {{- $_ := set $out "additionalLabels" ($monitor.additionalLabels | default dict) -}}
  {{- range $key := list "sampleLimit" "targetLimit" "labelLimit" "labelNameLengthLimit" "labelValueLengthLimit" -}}
    {{- with index $monitor $key -}}
      {{- $_ := set $out.limits $key (int .) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $out -}}
{{- end }}

{{/* The ServiceMonitor of a part, where monitors are objects: (dict "root" . "part" p). */}}
{{- define "kofagent.serviceMonitor" -}}
{{- $scrape := include "kofagent.scrape" . | fromJson }}
{{- if and $scrape.endpoints (eq (include "kofagent.monitors" .root) "objects") }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "kofagent.part" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "kofagent.partLabels" (merge (dict "labels" $scrape.additionalLabels) .) | nindent 4 }}
spec:
  {{- with $scrape.jobLabel }}
  jobLabel: {{ . }}
  {{- end }}
  {{- with $scrape.limits }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "kofagent.partSelector" . | nindent 6 }}
  endpoints:
    {{- range $endpoint := $scrape.endpoints }}
    - port: {{ $endpoint.port }}
      honorLabels: {{ $endpoint.honorLabels }}
      {{- range $key := list "interval" "scrapeTimeout" }}
      {{- with index $endpoint $key }}
      {{ $key }}: {{ . }}
      {{- end }}
      {{- end }}
      {{- range $key := list "relabelings" "metricRelabelings" }}
      {{- with index $endpoint $key }}
      {{ $key }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
    {{- end }}
{{- end }}
{{- end }}

{{/* Scrape jobs of a role that stand for ServiceMonitors where those do not exist, with the labels they would give. A JSON list. */}}
{{- define "kofagent.jobs" -}}
{{- $root := .root -}}
{{- $jobs := list -}}
{{- range $part := ternary (list "prometheus-node-exporter") (list "kube-state-metrics" "opencost") (eq .role "node") -}}
  {{- $values := index $root.Values $part -}}
  {{- if $values.enabled -}}
    {{- $scrape := include "kofagent.scrape" (dict "root" $root "part" $part) | fromJson -}}
    {{- $service := merge (dict "app.kubernetes.io/name" $part "app.kubernetes.io/instance" $root.Release.Name) (($values.service).labels | default dict) -}}
    {{- $name := include "kofagent.part" (dict "root" $root "part" $part) -}}
    {{- $job := index $service ($scrape.jobLabel | default "") | default $name -}}
    {{- range $index, $endpoint := $scrape.endpoints -}}
      {{- $args := dict "root" $root "part" $part "job" $job "endpoint" $endpoint "limits" $scrape.limits "first" (eq $index 0) "node" (eq $.role "node") -}}
      {{- $jobs = append $jobs (include "kofagent.job" $args | fromYaml) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $jobs -}}
{{- end }}

{{- define "kofagent.job" -}}
{{- $endpoint := .endpoint -}}
{{- $selector := dict "role" "pod" "label" (printf "app.kubernetes.io/name=%s,app.kubernetes.io/instance=%s" .part .root.Release.Name) -}}
{{- if .node -}}
{{- $_ := set $selector "field" "spec.nodeName=${env:K8S_NODE_NAME}" -}}
{{- end -}}
job_name: {{ ternary .job (printf "%s/%s" .job $endpoint.port) .first }}
honor_labels: {{ $endpoint.honorLabels }}
{{- with $endpoint.interval }}
scrape_interval: {{ . }}
{{- end }}
{{- with $endpoint.scrapeTimeout }}
scrape_timeout: {{ . }}
{{- end }}
{{- range $key, $value := .limits }}
{{ snakecase $key }}: {{ int $value }}
{{- end }}
kubernetes_sd_configs:
  - role: pod
    namespaces: {names: [{{ .root.Release.Namespace }}]}
    selectors: [{{ toJson $selector }}]
relabel_configs:
  - {action: keep, source_labels: [__meta_kubernetes_pod_container_port_name], regex: {{ $endpoint.port }}}
  - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
  - {source_labels: [__meta_kubernetes_pod_container_name], target_label: container}
  - {target_label: service, replacement: {{ include "kofagent.part" (dict "root" .root "part" .part) }}}
  - {target_label: endpoint, replacement: {{ $endpoint.port }}}
  {{- if not .first }}
  - {target_label: job, replacement: {{ .job }}}
  {{- end }}
  {{- range $rule := $endpoint.relabelings | default list }}
  - {{ include "kofagent.relabel" $rule }}
  {{- end }}
{{- with $endpoint.metricRelabelings }}
metric_relabel_configs:
  {{- range $rule := . }}
  - {{ include "kofagent.relabel" $rule }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A rule of a ServiceMonitor (camel case) as Prometheus spells it, JSON. A `$` that is not doubled is doubled. */}}
{{- define "kofagent.relabel" -}}
{{- $rule := dict -}}
{{- range $key, $value := . -}}
{{- if kindIs "string" $value -}}
{{- $value = $value | replace "$$" "$" | replace "$" "$$" -}}
{{- end -}}
{{- $_ := set $rule (snakecase $key) $value -}}
{{- end -}}
{{- toJson $rule -}}
{{- end }}

{{/* Name of a workload that upstream takes from another chart. */}}
{{- define "kofagent.part" -}}
{{- printf "%s-%s" .root.Release.Name .part | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* Paths of values that are not in `known` (a tree; `true`: whatever is below, `off`: only false), a line each:
(dict "values" v "known" k "path" "opencost"). */}}
{{- define "kofagent.unknown" -}}
{{- range $key, $value := .values }}
{{- $path := printf "%s.%s" $.path $key }}
{{- $known := index $.known $key }}
{{- if kindIs "invalid" $known }}
{{ $path }}
{{- else if eq (toString $known) "off" }}
{{- if and (not (kindIs "invalid" $value)) (ne (toString $value) "false") }}
{{ $path }}
{{- end }}
{{- else if and (kindIs "map" $known) (kindIs "map" $value) }}
{{- include "kofagent.unknown" (dict "values" $value "known" $known "path" $path) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The keys that the templates read, as `kofagent.unknown` takes them. */}}
{{- define "kofagent.partKeys" -}}
prometheus-node-exporter:
  {{- range $key := list "enabled" "imagePullSecrets" "hostNetwork" "hostPID" "hostRootFsMount" "extraArgs" "extraHostVolumeMounts" "env" "podLabels" "podAnnotations" "updateStrategy" "resources" "tolerations" "nodeSelector" "affinity" "topologySpreadConstraints" "priorityClassName" }}
  {{ $key }}: true
  {{- end }}
  image: {registry: true, repository: true, tag: true, digest: true, pullPolicy: true}
  serviceAccount: {annotations: true}
  service: {port: true, servicePort: true, labels: true, annotations: true}
  prometheus:
    podMonitor: {enabled: "off"}
    monitor:
      http: true
      {{- include "kofagent.monitorKeys" . | nindent 6 }}
  kubeRBACProxy: {enabled: "off"}
  networkPolicy: {enabled: "off"}
  verticalPodAutoscaler: {enabled: "off"}
kube-state-metrics:
  {{- range $key := list "enabled" "imagePullSecrets" "collectors" "metricLabelsAllowlist" "metricAnnotationsAllowList" "metricAllowlist" "metricDenylist" "namespaces" "namespacesDenylist" "releaseNamespace" "customResourceState" "selfMonitor" "extraArgs" "prometheusScrape" "podLabels" "podAnnotations" "resources" "tolerations" "nodeSelector" "affinity" "topologySpreadConstraints" "priorityClassName" }}
  {{ $key }}: true
  {{- end }}
  image: {registry: true, repository: true, tag: true, digest: true, pullPolicy: true}
  rbac: {extraRules: true}
  serviceAccount: {annotations: true}
  service: {port: true, labels: true, annotations: true}
  prometheus:
    monitor:
      {{- $endpoint := dict "honorLabels" true "interval" true "scrapeTimeout" true "relabelings" true "metricRelabelings" true }}
      http: {{ toJson $endpoint }}
      metrics: {{ toJson $endpoint }}
      honorLabels: true
      {{- include "kofagent.monitorKeys" . | nindent 6 }}
  autosharding: {enabled: "off"}
  kubeRBACProxy: {enabled: "off"}
  networkPolicy: {enabled: "off"}
  podSecurityPolicy: {enabled: "off"}
  kubeconfig: {enabled: "off"}
  verticalPodAutoscaler: {enabled: "off"}
opencost:
  {{- range $key := list "enabled" "imagePullSecrets" "loglevel" "podLabels" "podAnnotations" "priorityClassName" "extraVolumes" }}
  {{ $key }}: true
  {{- end }}
  serviceAccount: {annotations: true}
  service: {labels: true, annotations: true}
  plugins: {enabled: "off"}
  networkPolicies: {enabled: "off"}
  opencost:
    {{- range $key := list "customPricing" "cloudIntegrationSecret" "tolerations" "nodeSelector" "affinity" "topologySpreadConstraints" }}
    {{ $key }}: true
    {{- end }}
    prometheus:
      {existingSecretName: true, username_key: true, password_key: true, bearer_token_key: true, external: true, internal: true,
       amp: {enabled: "off"}, thanos: {enabled: "off"}}
    metrics:
      serviceMonitor: {enabled: true, additionalLabels: true, scrapeInterval: true, scrapeTimeout: true, honorLabels: true, relabelings: true, metricRelabelings: true}
      kubeStateMetrics: true
      config: {enabled: "off"}
    exporter:
      image: {registry: true, repository: true, tag: true, digest: true, pullPolicy: true, fullImageName: true}
      {{- range $key := list "apiPort" "defaultClusterId" "extraArgs" "env" "extraEnv" "extraVolumeMounts" "resources" }}
      {{ $key }}: true
      {{- end }}
      persistence: {enabled: "off"}
    cloudCost: true
    carbonCost: true
    dataRetention: true
    ui: {enabled: "off"}
{{- end }}

{{- define "kofagent.monitorKeys" -}}
{{- range $key := list "enabled" "jobLabel" "additionalLabels" "interval" "scrapeTimeout" "relabelings" "metricRelabelings" "sampleLimit" "targetLimit" "labelLimit" "labelNameLengthLimit" "labelValueLengthLimit" }}
{{ $key }}: true
{{- end }}
{{- end }}
