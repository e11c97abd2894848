{{/* Whether the values are those of KOF 1.2 and later: empty or "true". */}}
{{- define "kofagent.isKof1" -}}
{{- $told := .Values.kofagent.generation | default "" -}}
{{- if or (hasKey .Values "opentelemetry-kube-stack") (hasPrefix "1." $told) -}}
{{- if has $told (list "0.1.1" "0.3.0") -}}
{{- fail (printf "kofagent.generation: %s has no key opentelemetry-kube-stack, which is of KOF 1.2 and later" $told) -}}
{{- end -}}
{{- if .Values.collectors.enabled -}}true{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether the two agents of KOF 0.1 to 1.1 run: empty or "true". */}}
{{- define "kofagent.hasRoles" -}}
{{- if and .Values.collectors.enabled (not (include "kofagent.isKof1" .)) -}}true{{- end -}}
{{- end }}

{{/* Lays one map over another, in place: maps merge, everything else replaces, also what is empty: (dict "under" map "over" map). */}}
{{- define "kofagent.over" -}}
{{- $under := .under -}}
{{- range $key, $value := .over -}}
  {{- if and (kindIs "map" $value) (kindIs "map" (index $under $key)) -}}
    {{- $_ := include "kofagent.over" (dict "under" (index $under $key) "over" $value) -}}
  {{- else if kindIs "invalid" $value -}}
    {{- $_ := set $under $key $value -}}
  {{- else -}}
    {{- $_ := set $under $key (deepCopy $value) -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* Fills in, in place, what only the sub-chart has, and deletes nulls over what it has, as Helm does: (dict "over" map "chart" map). */}}
{{- define "kofagent.coalesce" -}}
{{- $over := .over -}}
{{- range $key, $value := .chart -}}
  {{- if not (hasKey $over $key) -}}
    {{- $_ := set $over $key $value -}}
  {{- else if kindIs "invalid" (index $over $key) -}}
    {{- $_ := unset $over $key -}}
  {{- else if and (kindIs "map" $value) (kindIs "map" (index $over $key)) -}}
    {{- $_ := include "kofagent.coalesce" (dict "over" (index $over $key) "chart" $value) -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* The version of KOF whose defaults lie beneath the values: kofagent.generation, the tag of the daemon's image, the newest. */}}
{{- define "kofagent.kofVersion" -}}
{{- $known := .known -}}
{{- $root := .root -}}
{{- $stack := index $root.Values "opentelemetry-kube-stack" | default dict -}}
{{- $tag := ((((($stack).collectors).daemon).image).tag) | default "" -}}
{{- $found := "" -}}
{{- range $wanted := list $root.Values.kofagent.generation $tag -}}
  {{- $number := regexReplaceAll "^v?([0-9]+\\.[0-9]+(\\.[0-9]+)?)(-rc\\.?[0-9]+)?$" (toString ($wanted | default "")) "${1}" -}}
  {{- if and $number (not $found) -}}
    {{- range $version := keys $known.versions | sortAlpha -}}
      {{- if or (eq $version $number) (hasPrefix (printf "%s." $number) $version) -}}
        {{- $found = $version -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $found | default $known.newest -}}
{{- end }}

{{/*
The pods of KOF 1.2 and later, as a JSON object `{version, pods}`. A pod has
  keys        of its collectors, in the order of --collector; name, kind and replicas of its workload
  of          its collectors: key, name, own ports (name, port, target), labels, facts that decide about rights
  ports       of the container: name, port
  and the fields of a pod, each the union of what its collectors have.
DaemonSets of the same nodes are one, unless kofagent.onePerNode is false; then each collector has a pod of its own.
*/}}
{{- define "kofagent.kof1" -}}
{{- $root := . -}}
{{- $known := .Files.Get "kof-1.json" | fromJson -}}
{{- $version := include "kofagent.kofVersion" (dict "root" . "known" $known) -}}
{{- $user := index .Values "opentelemetry-kube-stack" | default dict -}}
{{- $stack := deepCopy (index $known.versions $version) -}}
{{- $_ := include "kofagent.over" (dict "under" $stack "over" $user) -}}
{{- $_ := include "kofagent.coalesce" (dict "over" $stack "chart" $known.chart) -}}
{{- $names := list -}}
{{- range $key := concat (list "cluster" "daemon" "target-allocator" "controller-k0s") (keys ($stack.collectors | default dict) | sortAlpha) | uniq -}}
  {{- if (index $stack.collectors $key | default dict).enabled -}}
    {{- $names = append $names $key -}}
  {{- end -}}
{{- end -}}
{{- $pods := list -}}
{{- range $key := $names -}}
  {{- $whole := deepCopy ($stack.defaultCRConfig | default dict) -}}
  {{- $_ := include "kofagent.over" (dict "under" $whole "over" (index $stack.collectors $key)) -}}
  {{- $suffix := $whole.suffix | default "opentelemetry-kube-stack" -}}
  {{- $name := $stack.fullnameOverride | default $whole.fullnameOverride | default (ternary $root.Release.Name (printf "%s-%s" $root.Release.Name $suffix) (contains $suffix $root.Release.Name)) -}}
  {{- $name = printf "%s-collector" ($name | trunc 63 | trimSuffix "-") -}}
  {{- $kind := index (dict "daemonset" "DaemonSet" "deployment" "Deployment" "statefulset" "StatefulSet") ($whole.mode | default "deployment") -}}
  {{- if not $kind -}}
    {{- fail (printf "opentelemetry-kube-stack.collectors.%s.mode: %s is none of daemonset, deployment, statefulset" $key $whole.mode) -}}
  {{- end -}}
  {{- $volumes := list -}}
  {{- $mounts := list -}}
  {{- $presets := $whole.presets | default dict -}}
  {{- if ($presets.hostMetrics).enabled -}}
    {{- $volumes = append $volumes (dict "name" "hostfs" "hostPath" (dict "path" "/")) -}}
    {{- $mounts = append $mounts (dict "name" "hostfs" "mountPath" "/hostfs" "readOnly" true "mountPropagation" "HostToContainer") -}}
  {{- end -}}
  {{- if ($presets.logsCollection).enabled -}}
    {{- $volumes = append $volumes (dict "name" "varlogpods" "hostPath" (dict "path" "/var/log/pods")) -}}
    {{- $volumes = append $volumes (dict "name" "varlibdockercontainers" "hostPath" (dict "path" "/var/lib/docker/containers")) -}}
    {{- $mounts = append $mounts (dict "name" "varlogpods" "mountPath" "/var/log/pods" "readOnly" true) -}}
    {{- $mounts = append $mounts (dict "name" "varlibdockercontainers" "mountPath" "/var/lib/docker/containers" "readOnly" true) -}}
    {{- if ($presets.logsCollection).storeCheckpoints -}}
      {{- $volumes = append $volumes (dict "name" "varlibotelcol" "hostPath" (dict "path" "/var/lib/otelcol" "type" "DirectoryOrCreate")) -}}
      {{- $mounts = append $mounts (dict "name" "varlibotelcol" "mountPath" "/var/lib/otelcol") -}}
    {{- end -}}
  {{- end -}}
  {{- $own := index ($user.collectors | default dict) $key | default dict -}}
  {{- $facts := include "kofagent.kof1Facts" (dict "known" $known "whole" $whole) | fromJson -}}
  {{- $collector := dict "key" $key "name" $name "labels" ($whole.labels | default dict) "facts" $facts -}}
  {{- $ports := list -}}
  {{- range $port := $whole.ports | default list -}}
    {{- $ports = append $ports (dict "name" $port.name "port" (int $port.port) "protocol" ($port.protocol | default "TCP")) -}}
  {{- end -}}
  {{- range $protocol := list "grpc" "http" -}}
    {{- range $number := index $facts $protocol -}}
      {{- $ports = append $ports (dict "name" (printf "otlp-%s" $protocol) "port" (int $number) "protocol" "TCP") -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $collector "ports" $ports -}}
  {{- $annotations := dict -}}
  {{- $metrics := (($whole.observability).metrics) | default dict -}}
  {{- if eq (toString $metrics.disablePrometheusAnnotations) "false" -}}
    {{- $annotations = dict "prometheus.io/scrape" "true" "prometheus.io/port" "8888" "prometheus.io/path" "/metrics" -}}
  {{- end -}}
  {{- range $name, $value := $whole.podAnnotations | default dict -}}
    {{- $_ := set $annotations $name (toString $value) -}}
  {{- end -}}
  {{- $pod := dict
    "name" $name "kind" $kind "keys" (list $key) "of" (list $collector) "replicas" (ternary 1 ($whole.replicas | int) (kindIs "invalid" $whole.replicas))
    "labels" ($whole.labels | default dict) "annotations" $annotations
    "volumes" (concat $volumes ($whole.volumes | default list)) "volumeMounts" (concat $mounts ($whole.volumeMounts | default list))
    "tolerations" ($whole.tolerations | default list) "affinity" ($whole.affinity | default dict) "nodeSelector" ($whole.nodeSelector | default dict)
    "hostNetwork" (eq (toString $whole.hostNetwork) "true") "securityContext" ($whole.securityContext | default dict)
    "podSecurityContext" ($whole.podSecurityContext | default dict) "priorityClassName" ($whole.priorityClassName | default "")
    "initContainers" ($whole.initContainers | default list) "containers" ($whole.additionalContainers | default list)
    "envFrom" ($whole.envFrom | default list) "updateStrategy" ($whole.updateStrategy | default dict)
    "env" (include "kofagent.kof1Env" (dict "stack" $stack "whole" $whole) | fromJsonArray)
    "resources" ($own.resources | default (($user.defaultCRConfig).resources) | default dict) -}}
  {{- $joined := false -}}
  {{- if and (eq $kind "DaemonSet") (ne (toString $root.Values.kofagent.onePerNode) "false") -}}
    {{- range $other := $pods -}}
      {{- if and (not $joined) (eq $other.kind "DaemonSet") (eq (toJson (pick $other "affinity" "nodeSelector")) (toJson (pick $pod "affinity" "nodeSelector"))) -}}
        {{- $_ := include "kofagent.kof1Join" (dict "into" $other "pod" $pod) -}}
        {{- $joined = true -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- if not $joined -}}
    {{- $pods = append $pods $pod -}}
  {{- end -}}
{{- end -}}
{{- range $pod := $pods -}}
  {{- $_ := include "kofagent.kof1Ports" $pod -}}
  {{- range $what := list "volumes" "volumeMounts" -}}
    {{- $seen := dict -}}
    {{- range $each := index $pod $what -}}
      {{- $id := ternary $each.name ($each.mountPath | default "") (eq $what "volumes") -}}
      {{- if not (hasKey $seen $id) -}}
        {{- $_ := set $seen $id $each -}}
      {{- else if ne (toJson (index $seen $id)) (toJson $each) -}}
        {{- fail (printf "opentelemetry-kube-stack: %s of %s: %s has two meanings in one pod; set kofagent.onePerNode: false or rename one" $what (join ", " $pod.keys) $id) -}}
      {{- end -}}
    {{- end -}}
    {{- $_ := set $pod $what (uniq (index $pod $what)) -}}
  {{- end -}}
{{- end -}}
{{- toJson (dict "version" $version "pods" $pods) -}}
{{- end }}

{{/* Makes one pod of two, in place: (dict "into" pod "pod" pod). */}}
{{- define "kofagent.kof1Join" -}}
{{- $into := .into -}}
{{- $pod := .pod -}}
{{- /* one name for two volumes, such as each collector's directory of queues: the later is renamed */ -}}
{{- $there := dict -}}
{{- range $into.volumes -}}
  {{- $_ := set $there .name (toJson .) -}}
{{- end -}}
{{- $renamed := dict -}}
{{- range $volume := $pod.volumes -}}
  {{- if and (hasKey $there $volume.name) (ne (index $there $volume.name) (toJson $volume)) -}}
    {{- $_ := set $renamed $volume.name (printf "%s-%s" $volume.name (index $pod.keys 0) | trunc 63 | trimSuffix "-") -}}
    {{- $_ := set $volume "name" (index $renamed $volume.name) -}}
  {{- end -}}
{{- end -}}
{{- range $mount := concat $pod.volumeMounts list -}}
  {{- with index $renamed $mount.name -}}
    {{- $_ := set $mount "name" . -}}
  {{- end -}}
{{- end -}}
{{- range $what := list "keys" "of" "volumes" "volumeMounts" "initContainers" "containers" "envFrom" -}}
  {{- $_ := set $into $what (concat (index $into $what) (index $pod $what)) -}}
{{- end -}}
{{- $_ := set $into "tolerations" (concat $into.tolerations $pod.tolerations | uniq) -}}
{{- $_ := set $into "hostNetwork" (or $into.hostNetwork $pod.hostNetwork) -}}
{{- range $what := list "labels" "annotations" "securityContext" "podSecurityContext" -}}
  {{- range $name, $value := index $pod $what -}}
    {{- if not (hasKey (index $into $what) $name) -}}
      {{- $_ := set (index $into $what) $name $value -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $what := list "resources" "updateStrategy" "priorityClassName" -}}
  {{- if not (index $into $what) -}}
    {{- $_ := set $into $what (index $pod $what) -}}
  {{- end -}}
{{- end -}}
{{- $present := dict -}}
{{- range $into.env -}}
  {{- $_ := set $present .name (toJson .) -}}
{{- end -}}
{{- range $entry := $pod.env -}}
  {{- if not (hasKey $present $entry.name) -}}
    {{- $_ := set $into "env" (append $into.env $entry) -}}
  {{- else if ne (index $present $entry.name) (toJson $entry) -}}
    {{- fail (printf "opentelemetry-kube-stack: env %s differs between %s and %s, which run in one pod; set kofagent.onePerNode: false" $entry.name (index $into.keys 0) (index $pod.keys 0)) -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* Ports of a pod, in place: what an earlier collector has moves by 10000 for each place in the list, as the agent does it. */}}
{{- define "kofagent.kof1Ports" -}}
{{- $pod := . -}}
{{- $taken := dict -}}
{{- $named := dict -}}
{{- $ports := list -}}
{{- range $index, $collector := $pod.of -}}
  {{- range $port := $collector.ports -}}
    {{- $target := $port.port -}}
    {{- $shared := and (hasKey $taken (toString (int $target))) (or (eq $index 0) (has $port.name (list "metrics" "api-server"))) -}}
    {{- if and (hasKey $taken (toString (int $target))) (not $shared) -}}
      {{- $target = add (int $target) (mul 10000 $index) -}}
    {{- end -}}
    {{- $_ := set $port "target" (int $target) -}}
    {{- if not $shared -}}
      {{- $_ := set $taken (toString (int $target)) true -}}
      {{- $name := ternary (printf "%s-%d" $port.name $index) $port.name (hasKey $named $port.name) -}}
      {{- $_ := set $named $name true -}}
      {{- $ports = append $ports (dict "name" $name "containerPort" (int $target) "protocol" $port.protocol) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $_ := set $pod "ports" $ports -}}
{{- end }}

{{/* `env` of a collector, every value a text: (dict "stack" values "whole" collector). The agent reads the rest of it itself. */}}
{{- define "kofagent.kof1Env" -}}
{{- $env := dict -}}
{{- $fields := dict "OTEL_K8S_NODE_NAME" "spec.nodeName" "OTEL_K8S_NODE_IP" "status.hostIP" "OTEL_K8S_NAMESPACE" "metadata.namespace" "OTEL_K8S_POD_NAME" "metadata.name" "OTEL_K8S_POD_IP" "status.podIP" "POD_NAME" "metadata.name" "K8S_NODE_NAME" "spec.nodeName" "POD_NAMESPACE" "metadata.namespace" -}}
{{- range $name, $path := $fields -}}
  {{- $_ := set $env $name (dict "name" $name "valueFrom" (dict "fieldRef" (dict "fieldPath" $path))) -}}
{{- end -}}
{{- with .stack.clusterName -}}
  {{- $_ := set $env "OTEL_RESOURCE_ATTRIBUTES" (dict "name" "OTEL_RESOURCE_ATTRIBUTES" "value" (printf "k8s.cluster.name=%v" .)) -}}
{{- end -}}
{{- range $entry := concat (.stack.extraEnvs | default list) (.whole.env | default list) -}}
  {{- if kindIs "map" $entry -}}
    {{- if $entry.valueFrom -}}
      {{- $_ := set $env $entry.name (dict "name" $entry.name "valueFrom" $entry.valueFrom) -}}
    {{- else -}}
      {{- $_ := set $env $entry.name (dict "name" $entry.name "value" (ternary "" (toString $entry.value) (kindIs "invalid" $entry.value))) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $out := list -}}
{{- range $name := keys $env | sortAlpha -}}
  {{- $out = append $out (index $env $name) -}}
{{- end -}}
{{- toJson $out -}}
{{- end }}

{{/*
What decides about a collector's ports and rights, as JSON: (dict "known" defaults "whole" collector). Receivers are those that
pipelines name. Every collector with a prometheus receiver may read what all kinds of monitors need only where KOF has a target
allocator: it, and the one of the cluster that has the targets without a node.
*/}}
{{- define "kofagent.kof1Facts" -}}
{{- $known := .known -}}
{{- $whole := .whole -}}
{{- $config := $whole.config | default dict -}}
{{- $block := dict -}}
{{- range $preset, $options := $whole.presets | default dict -}}
  {{- if and (kindIs "map" $options) $options.enabled (hasKey $known.presets $preset) -}}
    {{- $_ := include "kofagent.over" (dict "under" $block "over" (index $known.presets $preset)) -}}
  {{- end -}}
{{- end -}}
{{- $preset := deepCopy $block -}}
{{- $_ := include "kofagent.over" (dict "under" $block "over" (pick $config "receivers" "processors" "extensions")) -}}
{{- $used := dict "receivers" list "processors" list -}}
{{- range $kind := list "receivers" "processors" -}}
  {{- $ids := keys (index $preset $kind | default dict) -}}
  {{- range $pipeline := (($config.service).pipelines) | default dict -}}
    {{- $ids = concat $ids ((index ($pipeline | default dict) $kind) | default list) -}}
  {{- end -}}
  {{- $_ := set $used $kind (uniq $ids) -}}
{{- end -}}
{{- $jobs := list -}}
{{- $objects := list -}}
{{- $text := dict -}}
{{- $types := dict "receivers" list "processors" list -}}
{{- $grpc := list -}}
{{- $http := list -}}
{{- range $kind, $ids := $used -}}
  {{- range $id := $ids -}}
    {{- $type := regexReplaceAll "/.*$" $id "" -}}
    {{- $options := index (index $block $kind | default dict) $id -}}
    {{- $_ := set $types $kind (append (index $types $kind) $type | uniq) -}}
    {{- $_ := set $text $type (printf "%s%s" (index $text $type | default "") (toJson $options)) -}}
    {{- if kindIs "map" $options -}}
      {{- if eq $type "prometheus" -}}
        {{- range $job := (($options.config).scrape_configs) | default list -}}
          {{- $jobs = append $jobs (toJson $job) -}}
        {{- end -}}
      {{- else if eq $type "k8sobjects" -}}
        {{- $objects = concat $objects ($options.objects | default list) -}}
      {{- else if eq $type "otlp" -}}
        {{- $protocols := $options.protocols | default dict -}}
        {{- if hasKey $protocols "grpc" -}}
          {{- $grpc = append $grpc (regexFind "[0-9]+$" (toString ((($protocols.grpc) | default dict).endpoint | default "4317")) | int) -}}
        {{- end -}}
        {{- if hasKey $protocols "http" -}}
          {{- $http = append $http (regexFind "[0-9]+$" (toString ((($protocols.http) | default dict).endpoint | default "4318")) | int) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and $whole.scrape_configs_file (eq (toString $whole.scrape_configs_file) "daemon_scrape_configs.yaml") -}}
  {{- range $job := $known.scrape_file -}}
    {{- $jobs = append $jobs (toJson $job) -}}
  {{- end -}}
  {{- $_ := set $types "receivers" (append $types.receivers "prometheus" | uniq) -}}
{{- end -}}
{{- $monitors := eq (toString (($whole.targetAllocator).enabled)) "true" -}}
{{- toJson (dict
  "config" (dict "extensions" ($block.extensions | default dict)) "receivers" $types.receivers "processors" $types.processors
  "jobs" $jobs "objects" $objects "text" $text "nodeless" list "strategy" "all" "reads" "all"
  "kinds" (ternary (list "ServiceMonitor" "PodMonitor" "Probe" "ScrapeConfig") list $monitors) "monitorsOf" dict
  "grpc" (uniq $grpc) "http" (uniq $http)) -}}
{{- end }}

{{/* Names of the accounts of all agents, a JSON list. */}}
{{- define "kofagent.accounts" -}}
{{- $names := list -}}
{{- if include "kofagent.isKof1" . -}}
{{- range $pod := (include "kofagent.kof1" . | fromJson).pods -}}
{{- $names = append $names $pod.name -}}
{{- end -}}
{{- else -}}
{{- range $role := list "node" "k8scluster" -}}
{{- $names = append $names (include "kofagent.name" (dict "root" $ "role" $role)) -}}
{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end }}
