#!/usr/bin/env bash
# Install the real servers that the end-to-end tests talk to, pinned, into a cache folder.
#
#   tests/servers/install.sh            # all of them
#   tests/servers/install.sh apt vlogs  # some: apt vm vlogs telemetrygen jaeger
#   tests/servers/install.sh kubernetes kwok containerd   # for tests/cluster; also: helm kube-state-metrics opencost prometheus3
#   tests/servers/install.sh kube-apiserver helm          # of kubernetes only what a dry run needs: etcd, API server, kubectl
#   tests/servers/install.sh otelcol-attributes otelcol-k8s   # Go collectors, for the tests beside them
#   tests/servers/install.sh monitoring-crds prometheus-operator   # kinds of monitors; the operator, for the test beside it
#
# The sets of the second group are not installed unless named: kubernetes builds for 10 to 15 minutes on 2 cores (1.34, with etcd
# 3.6), kwok and helm 2.5 each; containerd is Debian packages. What is there already in the pinned version takes no time.
# Binaries land in ${KOFAGENT_SERVERS:-$HOME/.cache/kofagent/servers}/bin and are built once per version.
# Needs root for the Debian packages and Go (1.24 or newer) for the rest. A server that cannot be installed is named at
# the end and the script still exits 0: the test run names it again as "not tested".
set -uo pipefail
ROOT=${KOFAGENT_SERVERS:-$HOME/.cache/kofagent/servers}
BIN=$ROOT/bin
mkdir -p "$BIN" "$ROOT/src"
missing=()

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }

install_apt() {
  # package:command, both Debian bookworm's
  local want=() pair
  for pair in victoria-metrics:victoria-metrics prometheus-node-exporter:prometheus-node-exporter \
    postgresql:postgres \
    prometheus:promtool nginx-light:nginx apache2-utils:htpasswd openssl:openssl \
    systemd:journalctl systemd-journal-remote:systemd-journal-remote; do
    PATH=$PATH:/usr/lib/systemd:$(echo /usr/lib/postgresql/*/bin) command -v "${pair#*:}" >/dev/null 2>&1 || want+=("${pair%%:*}")
  done
  [ ${#want[@]} -eq 0 ] && return 0
  apt_install "${want[@]}"
}

apt_install() {
  say "apt: $*"
  # policy-rc.d 101: the packages bring services, none of them may start
  if [ ! -e /usr/sbin/policy-rc.d ]; then printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; fi
  apt-get update -q >"$ROOT/apt.log" 2>&1
  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "$@" >>"$ROOT/apt.log" 2>&1
}

# copy_and_build NAME MODULE@VERSION PACKAGE: some modules have replace directives, which `go install` refuses
copy_and_build() {
  local name=$1 module=$2 package=$3 dir copy
  local out="$BIN/$name"
  [ -x "$out" ] && [ "$(cat "$out.version" 2>/dev/null)" = "$module" ] && return 0
  say "build $name from $module"
  dir=$(go mod download -json "$module" 2>>"$ROOT/go.log" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$dir" ] || return 1
  copy=$ROOT/src/${module//[\/@]/_}
  [ -d "$copy" ] || { cp -r "$dir" "$copy" && chmod -R u+w "$copy"; }
  (cd "$copy" && CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags '-s -w' -o "$out" "$package") >>"$ROOT/go.log" 2>&1 || return 1
  echo "$module" > "$out.version"
}

install_vm() {
  local m=github.com/VictoriaMetrics/VictoriaMetrics@v1.115.0
  copy_and_build victoria-metrics "$m" ./app/victoria-metrics && copy_and_build vmauth "$m" ./app/vmauth && copy_and_build vmagent "$m" ./app/vmagent
}
install_vlogs() { copy_and_build victoria-logs github.com/VictoriaMetrics/VictoriaMetrics@v1.107.0 ./app/victoria-logs; }
install_jaeger() { copy_and_build jaeger github.com/jaegertracing/jaeger@v1.76.0 ./cmd/jaeger; }
install_telemetrygen() {
  local m=github.com/open-telemetry/opentelemetry-collector-contrib/cmd/telemetrygen@v0.161.0
  [ -x "$BIN/telemetrygen" ] && [ "$(cat "$BIN/telemetrygen.version" 2>/dev/null)" = "$m" ] && return 0
  say "build telemetrygen"
  GOBIN=$BIN CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' "$m" >>"$ROOT/go.log" 2>&1 && echo "$m" > "$BIN/telemetrygen.version"
}

# versioned NAME VERSION: whether bin/NAME is there in this version (a program without its .version file is asked)
versioned() {
  [ -x "$BIN/$1" ] || return 1
  [ "$(cat "$BIN/$1.version" 2>/dev/null)" = "$2" ] && return 0
  [ -e "$BIN/$1.version" ] && return 1
  { "$BIN/$1" version --client || "$BIN/$1" --version || "$BIN/$1" version; } 2>/dev/null | grep -qF "${2##*@}" && echo "$2" > "$BIN/$1.version"
}

# go_install NAME MODULE@VERSION
go_install() {
  versioned "$1" "$2" && return 0
  say "build $1 from $2"
  GOBIN=$BIN CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' "$2" >>"$ROOT/go.log" 2>&1 && echo "$2" > "$BIN/$1.version"
}

# One empty module that requires k8s.io/kubernetes and maps each of its ./staging replaces to the published module, because
# `go install` refuses replace directives. Without its version in -ldflags kubectl refuses to work.
install_kubernetes() { kubernetes_programs etcd kube-apiserver kubectl kube-controller-manager kube-scheduler kubelet; }
install_kube-apiserver() { kubernetes_programs etcd kube-apiserver kubectl; }
kubernetes_programs() {
  local v=1.34.4 etcd=3.6.4 work=$ROOT/src/k8sbin p=k8s.io/component-base/version name package mod m ld want=()
  for name in "$@"; do
    if [ "$name" = etcd ]; then versioned etcd "$etcd" || want+=(etcd); else versioned "$name" "v$v" || want+=("$name"); fi
  done
  [ ${#want[@]} -eq 0 ] && return 0
  mkdir -p "$work"
  (
    set -e
    cd "$work"
    [ -f go.mod ] || go mod init example.test/k8sbin
    go mod edit -require="k8s.io/kubernetes@v$v" -require="go.etcd.io/etcd/server/v3@v$etcd"
    mod=$(go mod download -json "k8s.io/kubernetes@v$v" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
    for m in $(sed -n 's#^\t\(k8s.io/[a-z-]*\) => ./staging/.*#\1#p' "$mod"); do go mod edit -replace="$m=$m@v0.${v#1.}"; done
  ) >>"$ROOT/go.log" 2>&1 || return 1
  ld="-s -w -X $p.gitMajor=1 -X $p.gitMinor=34 -X $p.gitVersion=v$v -X $p.gitTreeState=clean -X $p.buildDate=1970-01-01T00:00:00Z"
  for name in "${want[@]}"; do
    say "build $name"
    package=k8s.io/kubernetes/cmd/$name
    [ "$name" = etcd ] && package=go.etcd.io/etcd/server/v3
    (cd "$work" && CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags "$ld" -o "$BIN/$name" "$package") >>"$ROOT/go.log" 2>&1 || return 1
    if [ "$name" = etcd ]; then echo "$etcd"; else echo "v$v"; fi > "$BIN/$name.version"
  done
}
install_kwok() {
  local m=sigs.k8s.io/kwok dir
  go_install kwok $m/cmd/kwok@v0.8.0 || return 1
  [ -s "$BIN/kwok.stages.yaml" ] && return 0
  # kwok does nothing without these; they are in its module only
  dir=$(go mod download -json $m@v0.8.0 2>>"$ROOT/go.log" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$dir" ] || return 1
  for stage in "$dir"/kustomize/stage/{node/fast,node/heartbeat-with-lease,pod/fast}/*.yaml; do
    grep -q '^kind: Stage' "$stage" && { echo ---; cat "$stage"; }
  done > "$BIN/kwok.stages.yaml.part" && mv "$BIN/kwok.stages.yaml.part" "$BIN/kwok.stages.yaml"
}
install_helm() { go_install helm helm.sh/helm/v3/cmd/helm@v3.22.0; }
# as the chart's default
install_kube-state-metrics() { copy_and_build kube-state-metrics k8s.io/kube-state-metrics/v2@v2.13.0 .; }
# the newest that is one module: from 1.109 on it needs a second one that is not published. 5 to 12 minutes
install_opencost() { copy_and_build opencost github.com/opencost/opencost@v1.108.1 ./cmd/costmodel; }
# Debian's Prometheus is built without Kubernetes discovery; this one has no other
install_prometheus3() {
  local v=github.com/prometheus/prometheus@v0.314.0 dir copy=$ROOT/src/prometheus3
  versioned prometheus3 "$v" && return 0
  say "build prometheus3 from $v"
  dir=$(go mod download -json "$v" 2>>"$ROOT/go.log" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$dir" ] || return 1
  [ -d "$copy" ] || { cp -r "$dir" "$copy" && chmod -R u+w "$copy"; }
  (cd "$copy" && GOWORK=off CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags '-s -w' -tags remove_all_sd,enable_kubernetes_sd \
    -o "$BIN/prometheus3" ./cmd/prometheus) >>"$ROOT/go.log" 2>&1 && echo "$v" > "$BIN/prometheus3.version"
}
OPERATOR=github.com/prometheus-operator/prometheus-operator@v0.85.0
install_monitoring-crds() {
  local dir out=$ROOT/monitoring-crds
  [ "$(cat "$out/version" 2>/dev/null)" = "$OPERATOR" ] && return 0
  dir=$(go mod download -json "$OPERATOR" 2>>"$ROOT/go.log" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$dir" ] || return 1
  mkdir -p "$out" && cp -f "$dir"/example/prometheus-operator-crd/*.yaml "$out/" && chmod -R u+w "$out" && echo "$OPERATOR" > "$out/version"
}
# its go.mod replaces two of its own modules by folders that the published module does not have; the published ones are the same
install_prometheus-operator() {
  local dir copy=$ROOT/src/prometheus-operator m=${OPERATOR%@*}
  install_monitoring-crds || return 1
  versioned prometheus-operator "$OPERATOR" && return 0
  say "build prometheus-operator from $OPERATOR"
  dir=$(go mod download -json "$OPERATOR" 2>>"$ROOT/go.log" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$dir" ] || return 1
  [ -d "$copy" ] || { cp -r "$dir" "$copy" && chmod -R u+w "$copy"; }
  (cd "$copy" && go mod edit -dropreplace="$m/pkg/apis/monitoring" -dropreplace="$m/pkg/client" && GOWORK=off CGO_ENABLED=0 go build \
    -mod=mod -trimpath -ldflags "-s -w -X github.com/prometheus/common/version.Version=${OPERATOR#*@v}" -o "$BIN/prometheus-operator" \
    ./cmd/operator) >>"$ROOT/go.log" 2>&1 && echo "$OPERATOR" > "$BIN/prometheus-operator.version"
}
# otelcol NAME GOMOD-KIND=MODULE...: a Go collector of version 0.149 with these components
otelcol() {
  local name=$1 v=0.149.0 work=$ROOT/src/$1 pair kind last=""
  shift
  versioned "$name" "$v $*" && return 0
  say "build $name (collector $v)"
  mkdir -p "$work"
  { printf 'dist: {name: %s, output_path: %s/out, otelcol_version: %s, module: example.test/%s}\n' "$name" "$work" "$v" "$name"
    for pair in "$@" providers=go.opentelemetry.io/collector/confmap/provider/{file,env}provider@v1.55.0; do
      kind=${pair%%=*}
      [ "$kind" = "$last" ] || echo "$kind:"
      last=$kind pair=${pair#*=}
      case $pair in *@*) ;; *) pair=$pair@v$v;; esac
      echo "  - gomod: ${pair/@/ }"
    done
  } > "$work/manifest.yaml"
  (set -e
    GOBIN=$work go install "go.opentelemetry.io/collector/cmd/builder@v$v"
    cd "$work" && GOFLAGS=-mod=mod ./builder --config manifest.yaml --skip-compilation --skip-strict-versioning
    cd out && CGO_ENABLED=0 go build -mod=mod -trimpath -ldflags '-s -w' -o "$BIN/$name" .
  ) >>"$ROOT/go.log" 2>&1 && echo "$v $*" > "$BIN/$name.version"
}
install_otelcol-attributes() {
  local contrib=github.com/open-telemetry/opentelemetry-collector-contrib core=go.opentelemetry.io/collector
  otelcol otelcol-attributes receivers=$core/receiver/otlpreceiver processors=$contrib/processor/k8sattributesprocessor \
    exporters=$core/exporter/otlphttpexporter
}
# for bench: a peer of otlp_transform and otlp_filter
install_otelcol-transform() {
  local core=go.opentelemetry.io/collector contrib=github.com/open-telemetry/opentelemetry-collector-contrib
  otelcol otelcol-transform receivers=$core/receiver/otlpreceiver processors=$contrib/processor/filterprocessor \
    processors=$contrib/processor/transformprocessor processors=$core/processor/batchprocessor \
    exporters=$core/exporter/otlphttpexporter
}
# for tests/e2e_cluster/test_go_collector.py
install_otelcol-k8s() {
  local core=go.opentelemetry.io/collector contrib=github.com/open-telemetry/opentelemetry-collector-contrib
  otelcol otelcol-k8s receivers=$contrib/receiver/k8sclusterreceiver receivers=$contrib/receiver/kubeletstatsreceiver \
    exporters=$core/exporter/otlphttpexporter providers=$core/confmap/provider/envprovider@v1.55.0
}
install_containerd() {
  local want=() pair
  for pair in containerd:/usr/bin/containerd runc:/usr/sbin/runc containernetworking-plugins:/usr/lib/cni/bridge \
    iptables:/usr/sbin/iptables iproute2:/usr/sbin/ip busybox-static:/bin/busybox openssl:/usr/bin/openssl; do
    [ -e "${pair#*:}" ] || want+=("${pair%%:*}")
  done
  [ ${#want[@]} -eq 0 ] && return 0
  apt_install "${want[@]}"
}

case " $* " in *" -h "*|*" --help "*) sed -n '2,15p' "$0" | sed 's/^# \?//'; exit 0;; esac
[ $# -gt 0 ] || set -- apt vm vlogs telemetrygen jaeger
for server in "$@"; do
  case $server in
    apt|vm|vlogs|telemetrygen|jaeger|kubernetes|kube-apiserver|kwok|helm|kube-state-metrics|opencost|containerd|prometheus3|monitoring-crds|prometheus-operator|otelcol-attributes|otelcol-k8s|otelcol-transform) "install_$server" || missing+=("$server");;
    *) { echo "install.sh: unknown server '$server'; known: apt vm vlogs telemetrygen jaeger kubernetes kube-apiserver kwok helm kube-state-metrics opencost containerd prometheus3 monitoring-crds prometheus-operator otelcol-attributes otelcol-k8s otelcol-transform" >&2
         exit 2; };;
  esac
done
[ ${#missing[@]} -eq 0 ] && say "all servers installed in $BIN" || say "NOT installed: ${missing[*]} (logs: $ROOT/apt.log $ROOT/go.log)"
exit 0
