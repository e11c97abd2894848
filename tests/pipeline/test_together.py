"""What would clash between collectors of one process is told apart, or an error that names both."""

from __future__ import annotations

import pytest

from kofagent.component import registry
from kofagent.config.load import load_config
from kofagent.config.model import LoadedConfig
from kofagent.pipeline.together import Together, listeners, tell_apart

OTLP = "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{0}'}}}}}}}}"
PIPE = "exporters: {nop: }\nservice: {pipelines: {SIGNAL: {receivers: [RECEIVER], exporters: [nop]}}, telemetry: {metrics: {level: none}}}"


def plan(text: str, receiver: str = "otlp", *more: str, signal: str = "logs") -> LoadedConfig:
    sources = [text, PIPE.replace("RECEIVER", receiver).replace("SIGNAL", signal), *more]
    return load_config([f"yaml:{source}" for source in sources], registry, environ={})


def otlp(*endpoints: str) -> tuple[dict[str, LoadedConfig], Together]:
    plans = {f"c{index}": plan(OTLP.format(endpoint)) for index, endpoint in enumerate(endpoints)}
    return plans, tell_apart(plans)


def addresses(plans: dict[str, LoadedConfig]) -> list[str]:
    return [one.endpoint for name, plan in plans.items() for one in listeners(name, plan)]


@pytest.mark.parametrize(
    ("endpoints", "want"),
    [
        (["0.0.0.0:4317", "0.0.0.0:4317", "0.0.0.0:4317"], ["0.0.0.0:4317", "0.0.0.0:14317", "0.0.0.0:24317"]),
        (["127.0.0.1:4317", "0.0.0.0:4317"], ["127.0.0.1:4317", "0.0.0.0:14317"]),
        (["0.0.0.0:4317", "10.0.0.1:4317"], ["0.0.0.0:4317", "10.0.0.1:14317"]),
        (["localhost:4317", "127.0.0.1:4317"], ["localhost:4317", "127.0.0.1:14317"]),
        (["[::1]:4317", "[::]:4317"], ["[::1]:4317", "[::]:14317"]),
        (["127.0.0.1:4317", "10.0.0.1:4317"], ["127.0.0.1:4317", "10.0.0.1:4317"]),
        (["0.0.0.0:4317", "0.0.0.0:4318"], ["0.0.0.0:4317", "0.0.0.0:4318"]),
        (["0.0.0.0:0", "0.0.0.0:0"], ["0.0.0.0:0", "0.0.0.0:0"]),
    ],
)
def test_a_port_that_an_earlier_collector_has_is_ten_thousand_higher(endpoints: list[str], want: list[str]) -> None:
    plans, together = otlp(*endpoints)
    assert addresses(plans) == want and not together.problems
    assert len(together.notes) == sum(a != b for a, b in zip(endpoints, want, strict=True))


def test_the_note_says_who_from_and_to() -> None:
    at = "receivers.otlp.protocols.grpc"
    assert otlp(":4317", "0.0.0.0:4317")[1].notes == [
        f"c1: {at} listens on 0.0.0.0:14317 instead of 0.0.0.0:4317, which {at} of c0 has"
    ]


@pytest.mark.parametrize(
    ("endpoints", "port"),
    [
        (["0.0.0.0:60000", "0.0.0.0:60000"], 70000),  # there is none
        (["0.0.0.0:4317", "0.0.0.0:24317", "0.0.0.0:4317"], 24317),  # another collector's
    ],
)
def test_where_the_higher_port_cannot_be_had_both_are_named(endpoints: list[str], port: int) -> None:
    at, last = "receivers.otlp.protocols.grpc", f"c{len(endpoints) - 1}"
    assert [str(problem) for problem in otlp(*endpoints)[1].problems] == [
        f"yaml::1: {at}: {last}: {endpoints[-1]} is taken by {at} of c0 (yaml::1), and port {port} cannot be had instead; "
        "give one of them another"
    ]


def test_a_port_of_the_same_collector_is_not_taken_for_another() -> None:
    second = plan("receivers: {otlp: {protocols: {grpc: {endpoint: ':4317'}, http: {endpoint: ':14317'}}}}")
    together = tell_apart({"a": plan(OTLP.format(":4317")), "b": second})
    assert "port 14317 cannot be had" in str(together.problems)


def test_two_of_one_collector_stay_as_they_are_written() -> None:
    twice = "receivers: {otlp: {protocols: {grpc: {endpoint: ':4317'}, http: {endpoint: ':4317'}}}}"
    plans = {"a": plan(twice)}
    together = tell_apart(plans)
    assert addresses(plans) == [":4317", ":4317"] and not (together.notes or together.problems)


def test_datagrams_and_connections_have_ports_of_their_own_and_a_path_of_a_socket_cannot_move() -> None:
    udp = "receivers: {jaeger: {protocols: {thrift_compact: {endpoint: ':4317'}}}}"
    plans = {"a": plan(OTLP.format(":4317")), "b": plan(udp, "jaeger", signal="traces"), "c": plan(udp, "jaeger", signal="traces")}
    tell_apart(plans)
    assert addresses(plans) == [":4317", ":4317", ":24317"]
    unix = "receivers: {otlp: {protocols: {http: {endpoint: /run/a, transport: unix}}}}"
    (problem,) = tell_apart({"a": plan(unix), "b": plan(unix)}).problems
    assert "/run/a is taken by receivers.otlp.protocols.http of a (yaml::1); give one" in str(problem)


TARGETS = "receivers: {{prometheus: {{api_server: {{enabled: {0}, server_config: {{endpoint: '{1}'{2}}}}}, config: {{scrape_configs: [{{job_name: j}}]}}}}}}"


def targets(endpoint: str, more: str = "", enabled: str = "true", *others: str) -> LoadedConfig:
    return plan(TARGETS.format(enabled, endpoint, more), "prometheus", *others, signal="metrics")


def health(endpoint: str, more: str = "") -> LoadedConfig:
    extension = f"extensions: {{health_check: {{endpoint: '{endpoint}'{more}}}}}\nservice: {{extensions: [health_check]}}"
    return plan("receivers: {nop: }", "nop", extension)


def page(host: str, port: int, more: str = "") -> LoadedConfig:
    reader = f"{{pull: {{exporter: {{prometheus: {{host: '{host}', port: {port}{more}}}}}}}}}"
    metrics = f"service: {{telemetry: {{metrics: {{level: normal, readers: [{reader}]}}}}}}"
    return plan("receivers: {nop: }", "nop", metrics)


def test_own_metrics_targets_and_health_are_one_at_the_address_of_the_first() -> None:
    for first, second, other, at in (
        (targets("127.0.0.1:9090"), targets("0.0.0.0:9090"), targets("0.0.0.0:9091"), "127.0.0.1:9090"),
        (health("localhost:13133"), health("127.0.0.1:13133"), health("127.0.0.1:13134"), "localhost:13133"),
        (page("10.0.0.1", 8888), page("0.0.0.0", 8888), page("0.0.0.0", 18888), "10.0.0.1:8888"),
    ):
        plans = {"a": first, "b": second, "c": other}
        third = addresses({"c": other})
        together = tell_apart(plans)
        assert addresses(plans) == [at, at, *third], together.notes
        (note,) = together.notes
        assert note.startswith("b: ") and f" is one with that of a, at {at} instead of " in note


def test_what_differs_in_more_than_its_address_moves() -> None:
    auth = ", auth: {authenticator: basicauth}"
    login = "extensions: {basicauth: {htpasswd: {inline: 'a:b'}}}\nservice: {extensions: [basicauth]}"
    secured = [targets(":9090", auth, "true", login) for _ in range(2)]
    for first, second in (
        secured,  # the one that answers would ask the authenticator of its own collector
        (health(":9090"), health(":9090", ", path: /live")),
        (page("", 9090), page("", 9090, ", without_type_suffix: true")),
        (targets(":9090"), page("", 9090)),
    ):
        plans = {"a": first, "b": second}
        tell_apart(plans)
        assert addresses(plans) == [":9090", ":19090"]
    plans = {"a": targets(":9090", enabled="false"), "b": targets(":9090")}
    assert not tell_apart(plans).notes
    plans = {"a": health(":9090"), "b": health(":9090", ", check_collector_pipeline: {enabled: true}")}
    tell_apart(plans)
    assert addresses(plans) == [":9090", ":9090"]


def test_own_metrics_that_are_not_configured_are_one_page_and_can_move() -> None:
    def unset() -> LoadedConfig:
        return plan("receivers: {nop: }", "nop", "service: {telemetry: {metrics: {level: normal}}}")

    plans = {"a": unset(), "b": unset()}
    assert not tell_apart(plans).problems
    assert addresses(plans) == ["localhost:8888", "localhost:8888"]
    plans = {"a": plan(OTLP.format(":8888")), "b": unset()}
    tell_apart(plans)
    assert addresses(plans) == [":8888", "localhost:18888"]
    assert addresses({"c": unset()}) == ["localhost:8888"]  # the default of all is what it was


def stored(directory: str) -> LoadedConfig:
    return plan(
        "receivers: {nop: }",
        "nop",
        f"extensions: {{file_storage: {{directory: {directory}}}}}\nservice: {{extensions: [file_storage]}}",
    )


def test_a_directory_of_two_collectors_is_one_below_it_for_the_later() -> None:
    plans = {"a": stored("/var/x"), "b": stored("/var/x/"), "c": stored("/var/y")}
    together = tell_apart(plans)
    assert [p.components["extensions"]["file_storage"].directory for p in plans.values()] == ["/var/x", "/var/x/b", "/var/y"]  # type: ignore[attr-defined]
    assert plans["b"].components["extensions"]["file_storage"].create_directory  # type: ignore[attr-defined]
    assert together.notes == [
        "b: extensions.file_storage keeps its files in /var/x/b, since /var/x is that of extensions.file_storage of a"
    ]


def test_variables_and_options_of_the_log_that_differ_are_told() -> None:
    plans = {name: plan("receivers: {nop: }", "nop") for name in "ab"}
    assert not tell_apart(plans).notes
    plans["a"].environment, plans["b"].environment = {"X": "secret-1", "Y": "1"}, {"X": "secret-2", "Y": "1"}
    plans["b"].telemetry.logs.encoding = "json"
    plans["b"].telemetry.logs.level = "debug"
    first, second = tell_apart(plans).notes
    assert first.startswith("b: the environment variable X differs from that of a;") and "secret" not in first
    assert second.startswith("b: service.telemetry.logs is not used but for the level")
