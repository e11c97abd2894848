#!/usr/bin/env bash
# Install the real servers that the end-to-end tests talk to, pinned, into a cache folder.
#
#   tests/servers/install.sh            # all of them
#   tests/servers/install.sh apt vlogs  # some: apt vm vlogs telemetrygen jaeger
#
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
    prometheus:promtool nginx-light:nginx apache2-utils:htpasswd openssl:openssl; do
    command -v "${pair#*:}" >/dev/null 2>&1 || want+=("${pair%%:*}")
  done
  [ ${#want[@]} -eq 0 ] && return 0
  say "apt: ${want[*]}"
  # policy-rc.d 101: the packages bring services, none of them may start
  if [ ! -e /usr/sbin/policy-rc.d ]; then printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; fi
  apt-get update -q >"$ROOT/apt.log" 2>&1
  DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends "${want[@]}" >>"$ROOT/apt.log" 2>&1
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

case " $* " in *" -h "*|*" --help "*) sed -n '2,10p' "$0" | sed 's/^# \?//'; exit 0;; esac
[ $# -gt 0 ] || set -- apt vm vlogs telemetrygen jaeger
for server in "$@"; do
  case $server in
    apt|vm|vlogs|telemetrygen|jaeger) "install_$server" || missing+=("$server");;
    *) { echo "install.sh: unknown server '$server'; known: apt vm vlogs telemetrygen jaeger" >&2; exit 2; };;
  esac
done
[ ${#missing[@]} -eq 0 ] && say "all servers installed in $BIN" || say "NOT installed: ${missing[*]} (logs: $ROOT/apt.log $ROOT/go.log)"
exit 0
