# The agent and nothing else: Python, its libraries, no shell, no package manager, no root.
#
#   docker build -t kofagent:0.1.0 .
#   docker run --rm -v "$PWD/otel.yaml:/otel.yaml:ro" kofagent:0.1.0 run --config /otel.yaml
#
# Nothing in it is of one architecture or one engine: docker (with and without BuildKit), buildah and podman build it (these two with
# --format docker, or the HEALTHCHECK is lost). PYTHON is any Debian image with Python 3.11 or later in /usr/local. The digest is that of
# the index of all architectures, and decides; the tag is for readers. A release takes the newest one of its tag.
ARG PYTHON=python:3.13.15-slim-trixie@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# ca-certificates and time zones are copied from here; strip makes the libraries smaller
RUN apt-get update -q && apt-get install -yq --no-install-recommends binutils ca-certificates tzdata && rm -rf /var/lib/apt/lists/*
COPY requirements.lock .
RUN python -m venv /venv && /venv/bin/pip install -q --require-hashes --only-binary=:all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY kofagent kofagent
COPY pipelines pipelines
# built by the hatchling of the lock, which rootfs.sh removes again
RUN /venv/bin/pip install -q --no-deps --no-build-isolation .
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
# For engines without probes: the page of the agent's own metrics, at its default address, asked past any proxy of the environment.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python3", "-I", "-S", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8888, timeout=4); c.request('HEAD', '/metrics'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["kofagent"]
CMD ["--help"]
