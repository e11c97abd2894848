{{/*
What each component reads, as rules `group: [resource]`; `get` is for what is only asked for by name, `urls` for paths of the API
server. What is listed and watched is never asked for by name. `resource=NAME` allows the objects of that name only.
*/}}
{{- define "kofagent.needs" -}}
"prometheus: role node": {"": [nodes]}
"prometheus: role pod": {"": [pods]}
"prometheus: role service": {"": [services]}
"prometheus: role endpoints": {"": [endpoints, services, pods]}
"prometheus: role endpointslice": {"": [services, pods], discovery.k8s.io: [endpointslices]}
"prometheus: role ingress": {networking.k8s.io: [ingresses]}
"prometheus: attach_metadata.node": {"": [nodes]}
"prometheus: attach_metadata.namespace": {"": [namespaces]}
"prometheus: attach_metadata.deployment": {apps: [replicasets]}
"prometheus: attach_metadata.cronjob": {batch: [jobs]}
"prometheus: monitors by labels of their namespace": {"": [namespaces]}
"prometheus: ServiceMonitor": {monitoring.coreos.com: [servicemonitors], "": [services, pods], discovery.k8s.io: [endpointslices]}
"prometheus: ServiceMonitor with serviceDiscoveryRole Endpoints": {"": [endpoints]}
"prometheus: PodMonitor": {monitoring.coreos.com: [podmonitors], "": [pods]}
"prometheus: monitors with attachMetadata.node": {"": [nodes]}
"prometheus: Probe": {monitoring.coreos.com: [probes]}
"prometheus: Probe with targets.ingress": {networking.k8s.io: [ingresses]}
"prometheus: ScrapeConfig": {monitoring.coreos.com: [scrapeconfigs]}
"prometheus: ScrapeConfig with kubernetesSDConfigs": {"": [nodes, pods, services, endpoints], discovery.k8s.io: [endpointslices]}
"prometheus: ScrapeConfig with role Ingress": {networking.k8s.io: [ingresses]}
"prometheus: jobs through /api/v1/nodes/NAME/proxy": {get: {"": [nodes/proxy]}}
"prometheus: jobs at the kubelets themselves": {get: {"": [nodes/metrics]}}
"prometheus: job of the API server": {urls: [/metrics]}
"k8sattributes: pods": {"": [pods]}
"k8sattributes: namespaces": {"": [namespaces]}
"k8sattributes: nodes": {"": [nodes]}
"k8sattributes: ReplicaSets": {apps: [replicasets]}
"k8sattributes: Deployments": {apps: [deployments, replicasets]}
"k8sattributes: StatefulSets": {apps: [statefulsets]}
"k8sattributes: DaemonSets": {apps: [daemonsets]}
"k8sattributes: Jobs": {batch: [jobs]}
"k8sattributes: CronJobs": {batch: [cronjobs, jobs]}
"kubeletstats": {get: {"": [nodes/stats]}}
"kubeletstats: metadata of pods and volumes": {get: {"": [nodes/pods, nodes/proxy, persistentvolumeclaims, persistentvolumes]}}
"kubeletstats: utilization of the node": {"": [nodes]}
"k8s_cluster": {"": [namespaces, nodes, pods, replicationcontrollers, resourcequotas, services], apps: [daemonsets, deployments, replicasets, statefulsets], batch: [cronjobs, jobs], autoscaling: [horizontalpodautoscalers]}
"k8s_cluster: distribution openshift": {quota.openshift.io: [clusterresourcequotas]}
"k8s_cluster: endpoints of Services": {discovery.k8s.io: [endpointslices]}
"k8s_events": {"": [events]}
"k8s_observer: pods": {"": [pods]}
"k8s_observer: services": {"": [services]}
"k8s_observer: ingresses": {networking.k8s.io: [ingresses]}
"k8s_observer: nodes": {"": [nodes]}
"resourcedetection: k8snode": {get: {"": [nodes]}}
"resourcedetection: k8s.cluster.uid": {get: {"": [namespaces]}}
"resourcedetection: eks": {get: {"": [nodes]}}
"resourcedetection: kubeadm": {get: {"": [configmaps=kubeadm-config, namespaces=kube-system]}}
{{- end }}

{{/*
Names of the needs of a scrape job, a JSON list: (dict "job" text "strategy" "per-node"). Where targets are divided, the node's
agent asks for no Services and Ingresses, the cluster's for no Pods and Nodes: none of those targets would be its own.
*/}}
{{- define "kofagent.needsOfJob" -}}
{{- $needs := list -}}
{{- $job := .job -}}
{{- $others := index (dict "per-node" (list "service" "ingress") "without-node" (list "node" "pod")) .strategy | default list -}}
{{- range $role := without (list "node" "pod" "service" "endpoints" "endpointslice" "ingress") $others -}}
  {{- if contains (printf "\"role\":\"%s\"" $role) $job -}}
    {{- $needs = append $needs (printf "prometheus: role %s" $role) -}}
  {{- end -}}
{{- end -}}
{{- range $what := list "node" "namespace" "deployment" "cronjob" -}}
  {{- if regexMatch (printf "\"attach_metadata\":{[^}]*\"%s\":true" $what) $job -}}
    {{- $needs = append $needs (printf "prometheus: attach_metadata.%s" $what) -}}
  {{- end -}}
{{- end -}}
{{- $node := has "prometheus: role node" $needs -}}
{{- $named := or $node (regexMatch "\"attach_metadata\":{[^}]*\"node\":true|(pod|endpoint)_node_name" $job) -}}
{{- /* KOF's job of the API server makes such a path of a label that its targets never have */ -}}
{{- if and (contains "/proxy/" $job) (or $named (not (contains "__meta_kubernetes_node_name" $job))) -}}
  {{- $needs = append $needs "prometheus: jobs through /api/v1/nodes/NAME/proxy" -}}
{{- else if $node -}}
  {{- $needs = append $needs "prometheus: jobs at the kubelets themselves" -}}
{{- end -}}
{{- if and (contains "kubernetes.default" $job) (not (contains "\"role\":\"node\"" $job)) -}}
  {{- $needs = append $needs "prometheus: job of the API server" -}}
{{- end -}}
{{- toJson $needs -}}
{{- end }}

{{/* Names of the needs of a role, a JSON list: (dict "facts" facts). */}}
{{- define "kofagent.needsOf" -}}
{{- $facts := .facts -}}
{{- $needs := list -}}
{{- $receivers := $facts.receivers -}}
{{- if has "prometheus" $receivers -}}
  {{- range $job := $facts.jobs -}}
    {{- $needs = concat $needs (include "kofagent.needsOfJob" (dict "job" $job "strategy" $facts.strategy) | fromJsonArray) -}}
  {{- end -}}
{{- end -}}
{{- range $job := $facts.nodeless -}}
  {{- $needs = concat $needs (include "kofagent.needsOfJob" (dict "job" $job "strategy" "without-node") | fromJsonArray) -}}
{{- end -}}
{{- $more := dict
  "ServiceMonitor" (list "ServiceMonitor with serviceDiscoveryRole Endpoints" "monitors with attachMetadata.node")
  "PodMonitor" (list "monitors with attachMetadata.node")
  "Probe" (list "Probe with targets.ingress")
  "ScrapeConfig" (prepend (ternary list (list "ScrapeConfig with role Ingress") (eq $facts.reads "per-node")) "ScrapeConfig with kubernetesSDConfigs") -}}
{{- range $kind := $facts.kinds -}}
  {{- range $what := prepend (index $more $kind | default list) $kind -}}
    {{- $needs = append $needs (printf "prometheus: %s" $what) -}}
  {{- end -}}
{{- end -}}
{{- if and $facts.kinds ($facts.monitorsOf).namespace_selector -}}
  {{- $needs = append $needs "prometheus: monitors by labels of their namespace" -}}
{{- end -}}
{{- if has "k8sattributes" $facts.processors -}}
  {{- $text := index $facts.text "k8sattributes" | default "" -}}
  {{- $needs = append $needs "k8sattributes: pods" -}}
  {{- if or (contains "\"from\":\"namespace\"" $text) (contains "k8s.cluster.uid" $text) -}}
    {{- $needs = append $needs "k8sattributes: namespaces" -}}
  {{- end -}}
  {{- if or (contains "\"from\":\"node\"" $text) (contains "k8s.node.uid" $text) -}}
    {{- $needs = append $needs "k8sattributes: nodes" -}}
  {{- end -}}
  {{- range $kind, $name := dict "replicaset" "ReplicaSets" "deployment" "Deployments" "statefulset" "StatefulSets" "daemonset" "DaemonSets" "job" "Jobs" "cronjob" "CronJobs" -}}
    {{- if or (contains (printf "\"from\":\"%s\"" $kind) $text) (and (has $kind (list "deployment" "cronjob")) (contains (printf "k8s.%s.uid" $kind) $text)) -}}
      {{- $needs = append $needs (printf "k8sattributes: %s" $name) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if has "kubeletstats" $receivers -}}
  {{- $text := index $facts.text "kubeletstats" | default "" -}}
  {{- $needs = append $needs "kubeletstats" -}}
  {{- if or (contains "extra_metadata_labels" $text) (contains "_utilization" $text) -}}
    {{- $needs = append $needs "kubeletstats: metadata of pods and volumes" -}}
  {{- end -}}
  {{- if contains "\"node\":" $text -}}
    {{- $needs = append $needs "kubeletstats: utilization of the node" -}}
  {{- end -}}
{{- end -}}
{{- if has "k8s_cluster" $receivers -}}
  {{- $needs = append $needs "k8s_cluster" -}}
  {{- if contains "k8s.service.endpoint" (index $facts.text "k8s_cluster" | default "") -}}
    {{- $needs = append $needs "k8s_cluster: endpoints of Services" -}}
  {{- end -}}
  {{- if contains "openshift" (index $facts.text "k8s_cluster" | default "") -}}
    {{- $needs = append $needs "k8s_cluster: distribution openshift" -}}
  {{- end -}}
{{- end -}}
{{- if has "k8s_events" $receivers -}}
  {{- $needs = append $needs "k8s_events" -}}
{{- end -}}
{{- /* Observers watch when a receiver asks them to, and all but pods only where an option says so */ -}}
{{- if has "receiver_creator" $receivers -}}
  {{- range $id, $options := $facts.config.extensions | default dict -}}
    {{- if and (eq (regexReplaceAll "/.*$" $id "") "k8s_observer") (kindIs "map" $options) -}}
      {{- if ne (toString $options.observe_pods) "false" -}}
        {{- $needs = append $needs "k8s_observer: pods" -}}
      {{- end -}}
      {{- range $what := list "services" "ingresses" "nodes" -}}
        {{- if eq (toString (index $options (printf "observe_%s" $what))) "true" -}}
          {{- $needs = append $needs (printf "k8s_observer: %s" $what) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $detection := index $facts.text "resourcedetection" | default "" -}}
{{- if or (contains "\"k8snode\"" $detection) (contains "\"k8s_api\"" $detection) -}}
  {{- $needs = append $needs "resourcedetection: k8snode" -}}
  {{- if contains "k8s.cluster.uid" $detection -}}
    {{- $needs = append $needs "resourcedetection: k8s.cluster.uid" -}}
  {{- end -}}
{{- end -}}
{{- range $detector := list "eks" "kubeadm" -}}
  {{- if contains (printf "%q" $detector) $detection -}}
    {{- $needs = append $needs (printf "resourcedetection: %s" $detector) -}}
  {{- end -}}
{{- end -}}
{{- toJson (uniq $needs) -}}
{{- end }}

{{/*
Rules of a role, one a resource, above each the components that need it: (dict "root" . "role" "node"); or those of a pod with
several collectors, (dict "all" list-of-facts).
*/}}
{{- define "kofagent.rules" -}}
{{- $all := .all | default list -}}
{{- if not (hasKey . "all") -}}
{{- $all = list (include "kofagent.facts" . | fromJson) -}}
{{- end -}}
{{- $table := include "kofagent.needs" . | fromYaml -}}
{{- $rules := dict -}}
{{- $wanted := list -}}
{{- $objects := list -}}
{{- range $facts := $all -}}
  {{- $wanted = concat $wanted (include "kofagent.needsOf" (dict "facts" $facts) | fromJsonArray) -}}
  {{- $objects = concat $objects $facts.objects -}}
{{- end -}}
{{- range $need := uniq $wanted -}}
  {{- $entry := index $table $need -}}
  {{- range $group, $resources := omit $entry "get" "urls" -}}
    {{- range $resource := $resources -}}
      {{- $key := printf "%s|%s|list,watch" $group $resource -}}
      {{- $_ := set $rules $key (append (index $rules $key | default list) $need) -}}
    {{- end -}}
  {{- end -}}
  {{- range $group, $resources := $entry.get | default dict -}}
    {{- range $resource := $resources -}}
      {{- $key := printf "%s|%s|get" $group $resource -}}
      {{- $_ := set $rules $key (append (index $rules $key | default list) $need) -}}
    {{- end -}}
  {{- end -}}
  {{- range $url := $entry.urls | default list -}}
    {{- $key := printf "url|%s|get" $url -}}
    {{- $_ := set $rules $key (append (index $rules $key | default list) $need) -}}
  {{- end -}}
{{- end -}}
{{- range $object := $objects -}}
  {{- $key := printf "%s|%s|list,watch" ($object.group | default "") $object.name -}}
  {{- $_ := set $rules $key (append (index $rules $key | default list) (printf "k8sobjects: %s" $object.name)) -}}
{{- end -}}
{{- range $key, $needs := $rules }}
{{- $parts := splitList "|" $key }}
# {{ uniq $needs | join "; " }}
{{- if eq (index $parts 0) "url" }}
- nonResourceURLs: [{{ index $parts 1 | quote }}]
{{- else }}
{{- $named := splitList "=" (index $parts 1) }}
- apiGroups: [{{ index $parts 0 | quote }}]
  resources: [{{ index $named 0 | quote }}]
{{- with rest $named }}
  resourceNames: [{{ index . 0 | quote }}]
{{- end }}
{{- end }}
  verbs: [{{ index $parts 2 | splitList "," | join ", " }}]
{{- end }}
{{- end }}
