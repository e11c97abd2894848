"""What an agent could not start with, whatever machine it runs on, is a mistake of the configuration: all at once, with their lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from kofagent.component import registry
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import load_config

CONFIG = """\
receivers:
  otlp: {protocols: {http: {endpoint: 127.0.0.1:1, tls: {cert_file: c, key_file: k, cipher_suites: [TLS_RSA_WITH_NONSENSE]}}}}
  kubeletstats: {endpoint: "n1:none"}
  k8s_cluster: {auth_type: tls}
processors:
  resourcedetection: {detectors: [k8snode], k8snode: {auth_type: tls}}
exporters:
  otlp:
    endpoint: h:4317
    tls:
      min_version: "1.3"
      max_version: "1.3"
      cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
    auth: {authenticator: headers_setter}
  otlp/plain: {endpoint: "http://h:4317", tls: {min_version: "1.3", cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}}
  otlphttp:
    endpoint: https://h:4318
    tls: {cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, no-such, none-such]}
  otlphttp/13: {endpoint: "https://h:4318", tls: {cipher_suites: [TLS_AES_128_GCM_SHA256]}}
extensions:
  headers_setter: {headers: [{key: a, value: b}], additional_auth: headers_setter}
  headers_setter/a: {headers: [{key: a, value: b}], additional_auth: headers_setter/b}
  headers_setter/b: {headers: [{key: a, value: b}], additional_auth: headers_setter/a}
service:
  extensions: [headers_setter, headers_setter/a, headers_setter/b]
  pipelines:
    logs: {receivers: [otlp], exporters: [otlp, otlp/plain, otlphttp, otlphttp/13]}
    metrics: {receivers: [kubeletstats, k8s_cluster], processors: [resourcedetection], exporters: [otlp]}
"""
GRPC = "cannot be chosen: a gRPC client always uses TLS 1.2 or 1.3 with the cipher suites of its library; remove it"
NO_TLS = (
    "auth_type: tls has no options that name a certificate; write kubeConfig, with a kubeconfig that has client-certificate and "
    "client-key"
)


def test_what_no_agent_could_start_with(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(CONFIG)
    with pytest.raises(ConfigErrors) as caught:
        load_config([str(file)], registry, {})
    assert str(caught.value).replace(f"{file}:", "").splitlines() == [
        "2: receivers.otlp.protocols.http.tls.cipher_suites: TLS_RSA_WITH_NONSENSE: unknown cipher suite",
        "3: receivers.kubeletstats: auth_type tls needs cert_file and key_file; in a pod write auth_type: serviceAccount",
        "3: receivers.kubeletstats.endpoint: is not host:port or a URL of the kubelet",
        f"4: receivers.k8s_cluster.{NO_TLS}",
        f"6: processors.resourcedetection.k8snode.{NO_TLS}",
        f"11: exporters.otlp.tls.min_version: {GRPC}",
        f"12: exporters.otlp.tls.max_version: {GRPC}",
        f"13: exporters.otlp.tls.cipher_suites: {GRPC}",
        "18: exporters.otlphttp.tls.cipher_suites: no-such, none-such: unknown cipher suites",
        "19: exporters.otlphttp/13.tls.cipher_suites: names no suite of TLS 1.2, and those of TLS 1.3 are always on; write "
        "min_version: '1.3' instead",
        "21: extensions.headers_setter.additional_auth: the extension names itself; name another one",
        "22: extensions.headers_setter/a.additional_auth: circular extensions: headers_setter/a -> headers_setter/b -> "
        "headers_setter/a; name another one",
    ]
