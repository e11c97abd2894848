# syntax=docker/dockerfile:1
# The agent and nothing else: Python, its libraries, no shell, no package manager, no root.
#
#   docker build -t kofagent:0.1.0 .
#   docker run --rm -v "$PWD/otel.yaml:/otel.yaml:ro" kofagent:0.1.0 run --config /otel.yaml
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /build
# ca-certificates and time zones are copied from here; strip makes the libraries smaller
RUN apt-get update -q && apt-get install -yq --no-install-recommends binutils ca-certificates tzdata && rm -rf /var/lib/apt/lists/*
COPY requirements.lock .
RUN python -m venv /venv && /venv/bin/pip install -q --no-cache-dir --require-hashes --only-binary=:all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY kofagent kofagent
COPY pipelines pipelines
RUN /venv/bin/pip install -q --no-cache-dir --no-deps .
COPY docker/rootfs.sh docker/rootfs.sh
RUN docker/rootfs.sh /venv /rootfs && chroot /rootfs /usr/local/bin/kofagent --version

FROM scratch
COPY --from=build /rootfs/ /
LABEL org.opencontainers.image.title="kofagent" \
      org.opencontainers.image.description="OpenTelemetry-compatible telemetry collector agent for KOF" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/k0rdent/kof"
ENV PATH=/usr/local/bin \
    PYTHONUNBUFFERED=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
# OTLP/gRPC, OTLP/HTTP, the agent's own metrics, the targets API
EXPOSE 4317 4318 8888 9090
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python3", "-I", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8888/metrics', timeout=4).read(1)"]
ENTRYPOINT ["kofagent"]
CMD ["--help"]
