{{/* Names are those the OpenTelemetry operator gives upstream's workloads: applications and KOF's UI know them. */}}
{{- define "kofagent.name" -}}
{{- printf "%s-%s-collector" .root.Release.Name (ternary "node-exporter" "k8s-cluster" (eq .role "node")) -}}
{{- end }}

{{- define "kofagent.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{/* What selects the pods of a role. */}}
{{- define "kofagent.selector" -}}
app.kubernetes.io/name: {{ include "kofagent.name" . }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: opentelemetry-collector
{{- end }}

{{/* The reference of an image: (dict "root" . "image" values "default" tag). */}}
{{- define "kofagent.image" -}}
{{- $global := .root.Values.global | default dict -}}
{{- $registry := $global.imageRegistry | default $global.registry | default .image.registry -}}
{{- $path := ternary (printf "%s/%s" $registry .image.repository) .image.repository (ne (toString ($registry | default "")) "") -}}
{{- if .image.digest -}}
{{ printf "%s@%s" $path .image.digest }}
{{- else -}}
{{ printf "%s:%s" $path (toString (.image.tag | default .default)) }}
{{- end -}}
{{- end }}

{{/* What the agent's default pipelines have that templates must know; tests/helm holds it against pipelines/. */}}
{{- define "kofagent.defaults" -}}
"0.3.0":
  node:
    receivers: [otlp, filelog/kube, prometheus]
    processors: [k8sattributes, batch]
    jobs:
      - '"role":"endpoints"'
      - '"role":"pod"'
      - '"role":"node" kubernetes.default /proxy/ __meta_kubernetes_node_name'
      - '"role":"node" kubernetes.default /proxy/ __meta_kubernetes_node_name'
    api: true
  k8scluster:
    receivers: [k8s_cluster, k8s_events, prometheus]
    processors: [batch]
    jobs: ['"role":"endpoints" kubernetes.default /proxy/ __meta_kubernetes_node_name']
    api: false
"0.1.1":
  node:
    receivers: [otlp, filelog, prometheus]
    processors: [k8sattributes, batch]
    jobs:
      - '"role":"node" kubernetes.default /proxy/ __meta_kubernetes_node_name'
      - '"role":"node" kubernetes.default /proxy/ __meta_kubernetes_node_name'
    api: false
  k8scluster:
    receivers: [k8s_cluster, k8sobjects]
    processors: [batch]
    jobs: []
    objects: [{name: pods}, {name: events, group: events.k8s.io}]
    api: false
{{- end }}

{{/* A Secret's key as the environment variable that ${secret:NAME/KEY} looks for. */}}
{{- define "kofagent.secretVariable" -}}
{{- regexReplaceAll "[^A-Za-z0-9]" (printf "%s_%s" .name .key) "_" | upper -}}
{{- end }}

{{/* Whether monitors are `objects` or `jobs`; empty: nothing is scraped. */}}
{{- define "kofagent.monitors" -}}
{{- $mode := .Values.kofagent.monitors | default "auto" -}}
{{- if eq $mode "auto" -}}
{{- ternary "objects" "jobs" (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/ServiceMonitor") -}}
{{- else if ne $mode "none" -}}
{{- $mode -}}
{{- end -}}
{{- end }}

{{/*
Everything the templates of a role must know, as JSON: (dict "root" . "role" "node").
  config      the user's collector configuration of the role
  receivers   types that are defined, by default or by the user; processors likewise
  jobs        text of each scrape job, objects those of k8sobjects
  secrets     what ${secret:...} needs: name, key, variable
  grpc, http  ports of OTLP, 0 without; own whether :8888 is ours
  api         port of the targets API; nodelessApi that of the cluster agent's targets without a node, 0 where the user has set it
  exporters   of the metrics pipeline, processorsOf likewise
  monitors    whether targets are divided between the agents; nodeless the node's own jobs that may have targets without a node
  strategy    the allocation of the prometheus receiver's targets, reads that of the receiver that reads monitors
  monitorsOf  the block `monitors` of the node's prometheus receiver; kinds the kinds of objects this agent reads by it
  places      ids of receivers that can keep their place over a restart and have no `storage` of the user's
*/}}
{{- define "kofagent.facts" -}}
{{- $values := .root.Values -}}
{{- $generation := $values.kofagent.generation | default "0.3.0" -}}
{{- $config := index ($values.collectors | default dict) .role | default dict -}}
{{- $defaults := index (include "kofagent.defaults" . | fromYaml) $generation .role -}}
{{- $facts := dict "config" $config "generation" $generation "jobs" list "objects" list "text" dict -}}

{{- range $kind := list "receivers" "processors" -}}
  {{- $own := index $config $kind | default dict -}}
  {{- $types := list -}}
  {{- range $id := index $defaults $kind -}}
    {{- if not (and (hasKey $own $id) (kindIs "invalid" (index $own $id))) -}}
      {{- $types = append $types (regexReplaceAll "/.*$" $id "") -}}
    {{- end -}}
  {{- end -}}
  {{- range $id, $options := $own -}}
    {{- if not (and (has $id (index $defaults $kind)) (kindIs "invalid" $options)) -}}
      {{- $types = append $types (regexReplaceAll "/.*$" $id "") -}}
      {{- $type := last $types -}}
      {{- $_ := set $facts.text $type (printf "%s%s" (index $facts.text $type | default "") (toJson $options)) -}}
      {{- if and (eq $type "prometheus") (kindIs "map" $options) -}}
        {{- range $job := ($options.config).scrape_configs | default list -}}
          {{- $_ := set $facts "jobs" (append $facts.jobs (toJson $job)) -}}
        {{- end -}}
      {{- end -}}
      {{- if and (eq $type "k8sobjects") (kindIs "map" $options) -}}
        {{- $_ := set $facts "objects" (concat $facts.objects ($options.objects | default list)) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- $_ := set $facts $kind (uniq $types) -}}
{{- end -}}

{{- $places := list -}}
{{- $receivers := $config.receivers | default dict -}}
{{- range $id := concat (index $defaults "receivers") (keys $receivers | sortAlpha) | uniq -}}
  {{- $options := index $receivers $id | default dict -}}
  {{- $off := and (has $id (index $defaults "receivers")) (hasKey $receivers $id) (kindIs "invalid" (index $receivers $id)) -}}
  {{- if and (has (regexReplaceAll "/.*$" $id "") (list "filelog" "file_log" "k8s_events" "k8sobjects" "k8s_objects")) (not $off) -}}
    {{- if not (hasKey $options "storage") -}}
      {{- $places = append $places $id -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $_ := set $facts "places" $places -}}

{{- $queues := list -}}
{{- $logs := ternary "otlphttp/logs" "otlphttp" (and (eq $generation "0.3.0") (eq .role "node")) -}}
{{- $sent := dict "metrics" "prometheusremotewrite" "logs" $logs -}}
{{- if and (eq .role "node") (or (eq $generation "0.3.0") (((($values.kof).traces)).endpoint)) -}}
  {{- $_ := set $sent "traces" "otlphttp/traces" -}}
{{- end -}}
{{- $exporters := $config.exporters | default dict -}}
{{- range $signal, $id := $sent -}}
  {{- $of := index ($values.kof | default dict) $signal | default dict -}}
  {{- $options := index $exporters $id | default dict -}}
  {{- $off := or (and (hasKey $of "endpoint") (not $of.endpoint)) (and (hasKey $exporters $id) (kindIs "invalid" (index $exporters $id))) -}}
  {{- if not (or $off (hasKey $options "sending_queue") (hasKey $options "remote_write_queue") (hasKey $options "wal")) -}}
    {{- $queues = append $queues $id -}}
  {{- end -}}
{{- end -}}
{{- $_ := set $facts "queues" (ternary $queues list (ne (toString (index $values.kofagent .role).queues.enabled) "false")) -}}

{{- $_ := set $facts "ownJobs" $facts.jobs -}}
{{- $own := index $receivers "prometheus" | default dict -}}
{{- if and (has "prometheus" $facts.receivers) (not (hasKey ($own.config | default dict) "scrape_configs")) -}}
  {{- $_ := set $facts "jobs" (concat $facts.jobs $defaults.jobs) -}}
{{- end -}}
{{- if and (has "k8sobjects" $facts.receivers) (not ((index $receivers "k8sobjects") | default dict).objects) -}}
  {{- $_ := set $facts "objects" (concat $facts.objects ($defaults.objects | default list)) -}}
{{- end -}}

{{- $api := ((($own.api_server).server_config).endpoint) | default (ternary "localhost:9090" "" $defaults.api) -}}
{{- $on := and (has "prometheus" $facts.receivers) (ne (toString (($own.api_server).enabled)) "false") -}}
{{- $on = and $on (eq (toString (or $defaults.api (($own.api_server).enabled))) "true") -}}
{{- $_ := set $facts "api" (ternary (regexFind "[0-9]+$" $api | default "9090" | int) 0 $on) -}}
{{- $_ := set $facts "apiOwn" (and $on (or (eq $api "") (eq $api "localhost:9090"))) -}}

{{- $otlp := index $receivers "otlp" | default dict -}}
{{- range $protocol, $port := dict "grpc" "4317" "http" "4318" -}}
  {{- $endpoint := ((index ($otlp.protocols | default dict) $protocol) | default dict).endpoint | default "" -}}
  {{- $off := and (hasKey ($otlp.protocols | default dict) $protocol) (kindIs "invalid" (index $otlp.protocols $protocol)) -}}
  {{- $number := regexFind "[0-9]+$" (toString $endpoint) | default $port | int -}}
  {{- $_ := set $facts $protocol (ternary $number 0 (and (has "otlp" $facts.receivers) (not $off))) -}}
{{- end -}}

{{- $telemetry := (($config.service).telemetry).metrics | default dict -}}
{{- $_ := set $facts "own" (not (or $telemetry.address $telemetry.readers (eq (lower (toString $telemetry.level)) "none"))) -}}

{{- $metrics := (($config.service).pipelines).metrics | default dict -}}
{{- $kof := $values.kof | default dict -}}
{{- $stored := not (and (hasKey ($kof.metrics | default dict) "endpoint") (not $kof.metrics.endpoint)) -}}
{{- $_ := set $facts "exporters" ($metrics.exporters | default (ternary (list "prometheusremotewrite") list $stored)) -}}
{{- $_ := set $facts "processorsOf" (ternary $metrics.processors (list "batch") (hasKey $metrics "processors")) -}}

{{- $_ := set $facts "nodeless" list -}}
{{- $_ := set $facts "nodelessApi" 0 -}}
{{- if eq .role "node" -}}
  {{- $_ := set $facts "monitors" (has "prometheus" $facts.receivers) -}}
  {{- $_ := set $facts "monitorsOf" (ternary $own.monitors (dict "enabled" true "scrape_interval" "10s") (hasKey $own "monitors")) -}}
  {{- if and $values.kofagent.denyFiles (kindIs "map" $facts.monitorsOf) (not (hasKey $facts.monitorsOf "deny_files")) -}}
    {{- $_ := set $facts "monitorsOf" (merge (dict "deny_files" true) $facts.monitorsOf) -}}
  {{- end -}}
{{- else -}}
  {{- $node := include "kofagent.facts" (dict "root" .root "role" "node") | fromJson -}}
  {{- $_ := set $facts "monitors" (and $node.monitors (eq $node.strategy "per-node") (gt (len $facts.exporters) 0)) -}}
  {{- $_ := set $facts "monitorsOf" $node.monitorsOf -}}
  {{- if and $facts.monitors (not (hasKey (index $receivers "prometheus/kofagent-nodeless" | default dict) "api_server")) -}}
    {{- $_ := set $facts "nodelessApi" (ternary 9090 (add1 $facts.api) (eq (int $facts.api) 0)) -}}
    {{- $_ := set $facts "api" ($facts.api | default $facts.nodelessApi) -}}
  {{- end -}}
  {{- range $job := ternary $node.ownJobs list $facts.monitors -}}
    {{- if regexMatch "static_configs|(http|dns|file)_sd_configs|\"role\":\"(service|endpoints|endpointslice|ingress)\"" $job -}}
      {{- $_ := set $facts "nodeless" (append $facts.nodeless $job) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}

{{- $divided := and (eq .role "node") (not (hasKey $own "allocation")) -}}
{{- $_ := set $facts "strategy" (ternary "per-node" (($own.allocation).strategy | default "all") $divided) -}}
{{- $_ := set $facts "reads" (ternary $facts.strategy "without-node" (eq .role "node")) -}}
{{- $read := and $facts.monitors (eq (toString ($facts.monitorsOf).enabled) "true") -}}
{{- $kinds := ($facts.monitorsOf).kinds | default (list "ServiceMonitor" "PodMonitor" "Probe" "ScrapeConfig") -}}
{{- $never := index (dict "per-node" "Probe" "without-node" "PodMonitor") $facts.reads | default "" -}}
{{- $_ := set $facts "kinds" (ternary (without $kinds $never) list $read) -}}

{{- $secrets := dict -}}
{{- if ne (toString $kof.basic_auth) "false" -}}
  {{- range $signal := list "metrics" "logs" -}}
    {{- $of := index $kof $signal | default dict -}}
    {{- if not (and (hasKey $of "endpoint") (not $of.endpoint)) -}}
      {{- $name := $of.credentials_secret_name | default "storage-vmuser-credentials" -}}
      {{- range $key := list ($of.username_key | default "username") ($of.password_key | default "password") -}}
        {{- $_ := set $secrets (include "kofagent.secretVariable" (dict "name" $name "key" $key)) (dict "name" $name "key" $key) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $found := regexFindAll "\\$\\{secret:[^/}\"]+/[^/}\"]+\\}" (toJson (list $config $kof)) -1 -}}
  {{- $parts := $found | trimPrefix "${secret:" | trimSuffix "}" | splitList "/" -}}
  {{- $ref := dict "name" (first $parts) "key" (last $parts) -}}
  {{- $_ := set $secrets (include "kofagent.secretVariable" $ref) $ref -}}
{{- end -}}
{{- $_ := set $facts "secrets" $secrets -}}
{{- toJson $facts -}}
{{- end }}
