{{/*
The ConfigMap of a role. `collectors-values.yaml` is what the user wrote, without what only Helm reads and without `env`, which
the container has already. `pod.yaml` is laid over what the values make and holds only what being in a pod adds:
listeners others can reach; for the node's agent its own node's targets and pods, for the cluster's agent the targets without a
node; monitors; jobs of the chart's exporters where monitors do not exist; and in the volume `state` the places of receivers and
the queues of exporters, which both outlive a restart. What a user has set stays.
*/}}
{{- define "kofagent.configMap" -}}
{{- $values := .root.Values -}}
{{- $facts := include "kofagent.facts" . | fromJson -}}
{{- $out := dict "collectors" (pick ($values.collectors | default dict) "enabled") -}}
{{- with omit $facts.config "env" -}}
{{- $_ := set $out.collectors $.role . -}}
{{- end -}}
{{- with pick ($values.global | default dict) "clusterLabel" "clusterName" -}}
{{- $_ := set $out "global" . -}}
{{- end -}}
{{- with $values.kof -}}
{{- $_ := set $out "kof" . -}}
{{- end -}}
collectors-values.yaml: |
  {{- toYaml $out | nindent 2 }}
pod.yaml: |
  {{- include "kofagent.podConfig" . | nindent 2 }}
{{- end }}

{{- define "kofagent.podConfig" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $facts := include "kofagent.facts" . | fromJson -}}
{{- $jobs := list -}}
{{- if and (eq (include "kofagent.monitors" $root) "jobs") $facts.exporters -}}
{{- $jobs = include "kofagent.jobs" . | fromJsonArray -}}
{{- end -}}
{{- $receivers := dict -}}
{{- $added := list -}}
{{- $global := $root.Values.global | default dict -}}
{{- $labels := dict ($global.clusterLabel | default "clusterName") ($global.clusterName | default "mothership") -}}
{{- $defaults := dict "scrape_interval" "10s" "external_labels" $labels -}}
{{- $scraper := dict -}}
{{- $user := index ($facts.config.receivers | default dict) "prometheus" | default dict -}}
{{- if $facts.apiOwn -}}
{{- $_ := set $scraper "api_server" (dict "server_config" (dict "endpoint" (printf ":%v" $facts.api))) -}}
{{- end -}}
{{- if and $facts.monitors (eq .role "node") -}}
{{- if not (hasKey $user "allocation") -}}
{{- $_ := set $scraper "allocation" (dict "strategy" "per-node") -}}
{{- end -}}
{{- if not (hasKey $user "monitors") -}}
{{- $_ := set $scraper "monitors" $facts.monitorsOf -}}
{{- end -}}
{{- else if $facts.monitors -}}
{{- $without := list -}}
{{- range $job := $facts.nodeless -}}
{{- $without = append $without (fromJson $job) -}}
{{- end -}}
{{- $nodeless := dict "allocation" (dict "strategy" "without-node") "monitors" ($facts.monitorsOf | default dict) "config" (dict "global" $defaults "scrape_configs" $without) -}}
{{- if $facts.nodelessApi -}}
{{- $_ := set $nodeless "api_server" (dict "enabled" true "server_config" (dict "endpoint" (printf ":%v" $facts.nodelessApi))) -}}
{{- end -}}
{{- $_ := set $receivers "prometheus/kofagent-nodeless" $nodeless -}}
{{- $added = append $added "prometheus/kofagent-nodeless" -}}
{{- end -}}
{{- $denied := dict "deny_files" true -}}
{{- if $root.Values.kofagent.denyFiles -}}
{{- range $id, $options := $facts.config.receivers | default dict -}}
{{- if and (regexMatch "^prometheus(/|$)" $id) (kindIs "map" $options) -}}
{{- if and (kindIs "map" $options.monitors) (not (hasKey $options.monitors "deny_files")) -}}
{{- if eq $id "prometheus" -}}
{{- $_ := set $scraper "monitors" $denied -}}
{{- else -}}
{{- $_ := set $receivers $id (dict "monitors" $denied) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with $scraper -}}
{{- $_ := set $receivers "prometheus" . -}}
{{- end -}}
{{- if $jobs -}}
{{- $_ := set $receivers "prometheus/kofagent" (dict "config" (dict "global" $defaults "scrape_configs" $jobs)) -}}
{{- $added = append $added "prometheus/kofagent" -}}
{{- end -}}
{{- range $id := $facts.places -}}
{{- $_ := set $receivers $id (dict "storage" "file_storage/kofagent") -}}
{{- end -}}
{{- $exporters := dict -}}
{{- range $id := $facts.queues -}}
{{- $queue := dict "storage" "file_storage/kofagent" "sizer" "items" "queue_size" 10000000 "storage_max_size" (index $values.kofagent $.role).queues.maxSize -}}
{{- $_ := set $exporters $id (dict "sending_queue" $queue) -}}
{{- end -}}
{{- $processors := dict -}}
{{- $attributes := index ($facts.config.processors | default dict) "k8sattributes" | default dict -}}
{{- if and (eq .role "node") (has "k8sattributes" $facts.processors) (not (hasKey $attributes "filter")) -}}
{{- $_ := set $processors "k8sattributes" (dict "filter" (dict "node_from_env_var" "K8S_NODE_NAME")) -}}
{{- end -}}
{{- $service := dict -}}
{{- if $facts.own -}}
{{- $_ := set $service "telemetry" (dict "metrics" (dict "address" ":8888")) -}}
{{- end -}}
{{- $stored := or $facts.places $facts.queues -}}
{{- if $stored -}}
{{- $_ := set $service "extensions" (list "file_storage/kofagent") -}}
{{- end -}}
{{- if $added -}}
{{- $pipeline := dict "receivers" $added "processors" ($facts.processorsOf | default list) "exporters" $facts.exporters -}}
{{- $_ := set $service "pipelines" (dict "metrics/kofagent" $pipeline) -}}
{{- end -}}
{{- if $receivers -}}
receivers:
  {{- toYaml $receivers | nindent 2 }}
{{ end -}}
{{- if $processors -}}
processors:
  {{- toYaml $processors | nindent 2 }}
{{ end -}}
{{- if $exporters -}}
exporters:
  {{- toYaml $exporters | nindent 2 }}
{{ end -}}
{{- if $stored -}}
extensions:
  file_storage/kofagent:
    directory: /var/lib/otelcol/file_storage
    # a pod that is being replaced may still have the files
    timeout: 30s
    # starting again is better than not starting
    recreate: true
{{ end -}}
service:
  {{- toYaml $service | nindent 2 }}
{{- end }}
