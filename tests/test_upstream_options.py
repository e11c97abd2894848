"""Options that upstream has are known here: used, or accepted with a warning. What is left out is named."""

from __future__ import annotations

from kofagent.processors.resourcedetection.config import LATER
from tests.upstream_options import missing, upstream

LEFT_OUT = (
    *(f"processors/resourcedetection {detector}" for detector in LATER),
    "receivers/hostmetrics scrapers.hardware",
    "receivers/prometheus config.scrape_configs.oauth2.c",  # claims and certificates of the JWT grant
    "receivers/prometheus config.scrape_configs.oauth2.iss",
    "receivers/prometheus config.scrape_configs.oauth2.signature_algorithm",
)


def test_what_upstream_has_and_we_have_not_is_left_out_on_purpose() -> None:
    lacking = {f"{component} {name}" for component, names in upstream().items() for name in missing(component, names)}
    assert {name for name in lacking if not name.startswith(LEFT_OUT) and not name.endswith("_sd_configs")} == set()


def test_a_new_name_is_found_wherever_it_stands() -> None:
    names = [
        "protocols.grpc.keepalive.server_parameters.time",
        "protocols.http.new",
        "new",
        "new.below",
        "protocols.grpc.tls.tpm.new",
    ]
    assert missing("receivers/otlp", names) == ["new", "protocols.grpc.tls.tpm.new", "protocols.http.new"]
    assert missing("exporters/file", ["compression_params.level", "rotation.new"]) == ["rotation.new"]
