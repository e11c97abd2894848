{{/* The pod of a role, shared by DaemonSet and Deployment: (dict "root" . "role" "node"). */}}
{{- define "kofagent.pod" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $facts := include "kofagent.facts" . | fromJson -}}
{{- $own := index $root.Values.kofagent $role -}}
{{- $asRoot := and (eq $role "node") (eq (toString $facts.config.run_as_root) "true") -}}
{{- $logs := and (eq $role "node") (has "filelog" $facts.receivers) -}}
{{- $host := and (eq $role "node") (has "hostmetrics" $facts.receivers) -}}
metadata:
  labels:
    {{- include "kofagent.selector" . | nindent 4 }}
    {{- include "kofagent.labels" $root | nindent 4 }}
    app.kubernetes.io/part-of: opentelemetry
    # KOF's UI finds the pods by these, and their ports by the annotations below.
    k0rdent.mirantis.com/kof-collector-metrics: collector
    {{- if $facts.api }}
    k0rdent.mirantis.com/kof-prometheus-receiver: prometheus
    {{- end }}
    {{- with $own.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The agent reads its configuration when it starts.
    checksum/config: {{ include "kofagent.configMap" . | sha256sum }}
    kubectl.kubernetes.io/default-container: otc-container
    {{- if $facts.own }}
    kof.k0rdent.mirantis.com/collector-metrics-port: "8888"
    {{- end }}
    {{- if $facts.api }}
    kof.k0rdent.mirantis.com/prometheus-api-server-port: {{ $facts.api | quote }}
    {{- end }}
    {{- with $own.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "kofagent.name" . }}
  {{- with $root.Values.kofagent.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $own.terminationGracePeriodSeconds }}
  {{- if $own.hostNetwork }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with $own.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $security := dict "seccompProfile" (dict "type" "RuntimeDefault") }}
  {{- if $asRoot }}
  # collectors.node.run_as_root
  {{- $_ := merge $security (dict "runAsNonRoot" false "runAsUser" 0 "runAsGroup" 0) }}
  {{- else if $logs }}
  # Container runtimes write pod logs as root:root 0640. Group 0 may read them: no root user, no capability.
  {{- $_ := merge $security (dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 0) }}
  {{- else }}
  {{- $_ := merge $security (dict "runAsNonRoot" true "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532) }}
  {{- end }}
  {{- $security = mergeOverwrite $security ($own.podSecurityContext | default dict) }}
  securityContext:
    {{- toYaml $security | nindent 4 }}
  {{- $claim := include "kofagent.claim" . }}
  {{- if and $claim $own.state }}
  {{- fail (printf "kofagent.%s: persistence and state are two volumes for the same place; give one of them" $role) }}
  {{- end }}
  {{- $onNode := and (eq $role "node") (not $own.state) }}
  {{- if $onNode }}
  initContainers:
    # The kubelet makes the directory for root, and fsGroup does not apply to hostPath: it is given to the agent's user.
    - name: state
      image: {{ include "kofagent.image" (dict "root" $root "image" $root.Values.kofagent.image "default" $root.Chart.AppVersion) | quote }}
      imagePullPolicy: {{ $root.Values.kofagent.image.pullPolicy }}
      command:
        - python3
        - -I
        - -S
        - -c
        - |
          import os
          top, user = "/state", {{ int $security.runAsUser }}
          if os.stat(top).st_uid != user:
              for folder, _, files in os.walk(top, topdown=False):
                  for path in [os.path.join(folder, name) for name in files] + [folder]:
                      os.chown(path, user, -1, follow_symlinks=False)
      resources:
        requests: {cpu: 10m, memory: 32Mi}
        limits: {memory: 32Mi}
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        allowPrivilegeEscalation: false
        privileged: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL], add: [CHOWN, DAC_READ_SEARCH]}
      volumeMounts:
        - {name: state, mountPath: /state}
  {{- end }}
  containers:
    # This name is excluded by KOF's log pipeline, so that a collector's own output does not feed on itself.
    - name: otc-container
      image: {{ include "kofagent.image" (dict "root" $root "image" $root.Values.kofagent.image "default" $root.Chart.AppVersion) | quote }}
      imagePullPolicy: {{ $root.Values.kofagent.image.pullPolicy }}
      args:
        - run
        - --values=/etc/kofagent/values/collectors-values.yaml
        - --role={{ $role }}
        {{- with $root.Values.kofagent.generation }}
        - --generation={{ . }}
        {{- end }}
        - --config=/etc/kofagent/values/pod.yaml
        # pod.yaml says what is kept in the volume `state`
        - --state=none
      env:
        {{- include "kofagent.env" (dict "facts" $facts) | nindent 8 }}
      {{- if or $facts.grpc $facts.http $facts.own $facts.api }}
      ports:
        {{- if $facts.grpc }}
        - {name: otlp-grpc, containerPort: {{ $facts.grpc }}, protocol: TCP}
        {{- end }}
        {{- if $facts.http }}
        - {name: otlp-http, containerPort: {{ $facts.http }}, protocol: TCP}
        {{- end }}
        {{- if $facts.own }}
        - {name: metrics, containerPort: 8888, protocol: TCP}
        {{- end }}
        {{- if $facts.api }}
        - {name: api-server, containerPort: {{ $facts.api }}, protocol: TCP}
        {{- end }}
      {{- end }}
      {{- $probes := include "kofagent.probes" (dict "facts" $facts "own" $own.probes) | fromYaml }}
      {{- with $probes }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        privileged: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
          {{- if $asRoot }}
          # Reads files whatever their mode, writes none.
          add: [DAC_READ_SEARCH]
          {{- end }}
      volumeMounts:
        - {name: values, mountPath: /etc/kofagent/values, readOnly: true}
        - {name: state, mountPath: /var/lib/otelcol/file_storage}
        - {name: tmp, mountPath: /tmp}
        {{- if $logs }}
        # filelog
        - {name: varlog, mountPath: /var/log, readOnly: true}
        {{- end }}
        {{- if $host }}
        # hostmetrics with root_path: /hostfs
        - {name: hostfs, mountPath: /hostfs, readOnly: true, mountPropagation: HostToContainer}
        {{- end }}
        {{- with $own.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: values
      configMap: {name: {{ include "kofagent.name" . }}}
    - name: state
      {{- $default := dict "emptyDir" (dict "sizeLimit" "512Mi") }}
      {{- if $onNode }}
      {{- $path := printf "/var/lib/kofagent/%s/%s" $root.Release.Namespace (include "kofagent.name" .) }}
      {{- $default = dict "hostPath" (dict "path" $path "type" "DirectoryOrCreate") }}
      {{- end }}
      {{- toYaml (ternary (dict "persistentVolumeClaim" (dict "claimName" $claim)) ($own.state | default $default) (ne $claim "")) | nindent 6 }}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- if $logs }}
    - name: varlog
      hostPath: {path: /var/log}
    {{- end }}
    {{- if $host }}
    - name: hostfs
      hostPath: {path: /}
    {{- end }}
    {{- with $own.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* Name of the PersistentVolumeClaim of a role; empty without one. */}}
{{- define "kofagent.claim" -}}
{{- $persistence := (index .root.Values.kofagent .role).persistence | default dict -}}
{{- if $persistence.enabled -}}
{{- $persistence.existingClaim | default (include "kofagent.name" .) -}}
{{- end -}}
{{- end }}

{{/* The container's environment: what configurations name, credentials from their Secrets, and collectors.<role>.env. */}}
{{- define "kofagent.env" -}}
{{- $facts := .facts -}}
{{- $given := dict -}}
{{- range $entry := $facts.config.env | default list -}}
{{- $_ := set $given $entry.name true -}}
{{- end -}}
{{- range $name, $path := dict "K8S_NODE_NAME" "spec.nodeName" "KUBE_NODE_NAME" "spec.nodeName" "OTEL_K8S_NODE_NAME" "spec.nodeName" "K8S_NODE_IP" "status.hostIP" "OTEL_K8S_NODE_IP" "status.hostIP" "POD_NAME" "metadata.name" "POD_NAMESPACE" "metadata.namespace" "POD_IP" "status.podIP" "K8S_POD_UID" "metadata.uid" }}
{{- if not (hasKey $given $name) }}
- {name: {{ $name }}, valueFrom: {fieldRef: {fieldPath: {{ $path }}}}}
{{- end }}
{{- end }}
{{- range $variable, $ref := $facts.secrets }}
{{- if not (hasKey $given $variable) }}
- {name: {{ $variable }}, valueFrom: {secretKeyRef: {name: {{ $ref.name | quote }}, key: {{ $ref.key | quote }}}}}
{{- end }}
{{- end }}
{{- with $facts.config.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Probes: the agent's own page unless another agent uses it, and OTLP's port for traffic. */}}
{{- define "kofagent.probes" -}}
{{- $probes := dict -}}
{{- if .facts.own -}}
{{- $get := dict "path" "/metrics" "port" "metrics" -}}
{{- $_ := set $probes "startupProbe" (dict "httpGet" $get "periodSeconds" 2 "failureThreshold" 60 "timeoutSeconds" 5) -}}
{{- $_ := set $probes "livenessProbe" (dict "httpGet" $get "periodSeconds" 30 "failureThreshold" 4 "timeoutSeconds" 10) -}}
{{- $_ := set $probes "readinessProbe" (dict "httpGet" $get "periodSeconds" 10 "timeoutSeconds" 5) -}}
{{- end -}}
{{- if .facts.http -}}
{{- $_ := set $probes "readinessProbe" (dict "tcpSocket" (dict "port" "otlp-http") "periodSeconds" 10 "timeoutSeconds" 5) -}}
{{- end -}}
{{- range $name, $probe := .own | default dict -}}
{{- if kindIs "invalid" $probe -}}
{{- $_ := unset $probes $name -}}
{{- else -}}
{{- $_ := set $probes $name $probe -}}
{{- end -}}
{{- end -}}
{{- toYaml $probes -}}
{{- end }}
