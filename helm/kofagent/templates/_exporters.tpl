{{/* Labels of a workload of ours that stands for another chart's: (dict "root" . "part" "kube-state-metrics"). */}}
{{- define "kofagent.partSelector" -}}
app.kubernetes.io/name: {{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Where a workload's pods run, of its values. */}}
{{- define "kofagent.placement" -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with index $.values $key }}
{{ $key }}:
  {{- if kindIs "string" . }} {{ . }}{{ else }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
{{- end }}
{{- with .root.Values.kofagent.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* A ServiceMonitor of a workload, where monitors are objects: (dict "root" . "part" p "monitor" m "jobLabel" l). */}}
{{- define "kofagent.serviceMonitor" -}}
{{- if eq (include "kofagent.monitors" .root) "objects" }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ include "kofagent.part" . }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "kofagent.partSelector" . | nindent 4 }}
    {{- include "kofagent.labels" .root | nindent 4 }}
    {{- with .monitor.additionalLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- with .jobLabel }}
  jobLabel: {{ . }}
  {{- end }}
  selector:
    matchLabels:
      {{- include "kofagent.partSelector" . | nindent 6 }}
  endpoints:
    - port: metrics
      honorLabels: {{ ne (toString ((.monitor.http).honorLabels)) "false" }}
      {{- range $key := list "interval" "scrapeTimeout" }}
      {{- with index $.monitor $key }}
      {{ $key }}: {{ . }}
      {{- end }}
      {{- end }}
      {{- range $key := list "relabelings" "metricRelabelings" }}
      {{- with index $.monitor $key }}
      {{ $key }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}
