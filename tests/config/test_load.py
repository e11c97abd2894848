"""Whole configurations: what is accepted, and every way to be wrong, all at once with file:line, path and suggestion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from kofagent.component import registry
from kofagent.config.base import EXTENSION
from kofagent.config.emit import scalar_text
from kofagent.config.errors import ConfigErrors, Problem, suggest
from kofagent.config.load import LoadedConfig, load_config
from kofagent.config.tree import Origin, node_of
from kofagent.config.typed_tree import marked
from kofagent.config.unused import notices
from tests.config import fake

GOOD = """\
receivers:
  in:
exporters:
  out: {endpoint: "http://h:1"}
service:
  pipelines:
    logs: {receivers: [in], exporters: [out]}
"""


def load(tmp_path: Path, *texts: str, **environ: str) -> LoadedConfig:
    files = []
    for index, text in enumerate(texts):
        file = tmp_path / f"c{index}.yaml"
        file.write_text(text)
        files.append(str(file))
    return load_config(files, fake, environ)


def component(config: LoadedConfig, kind: str, id: str) -> Any:
    """The options of a component, of a class that is not known here."""
    return config.components[kind][id]


def errors(tmp_path: Path, *texts: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path, *texts, **environ)
    return str(caught.value).replace(f"{tmp_path}/", "").splitlines()


@pytest.mark.parametrize("text", ["plain", "with space", "it's", "a: b", "1"])
def test_text_is_written_on_one_line_and_plain_where_it_can_be(text: str) -> None:
    assert scalar_text(text) == (text if text in ("plain", "with space", "it's") else f"'{text}'")


@pytest.mark.parametrize(
    "url, said", [("http://", "has no host"), ("https://:80/x", "has no host"), ("http://h:port", "is not valid")]
)
def test_a_url_needs_a_host(tmp_path: Path, url: str, said: str) -> None:
    assert said in errors(tmp_path, GOOD.replace("http://h:1", url))[0]


def test_a_configuration_becomes_typed_options(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert component(config, "receivers", "in").interval == 10.0
    assert component(config, "exporters", "out").endpoint == "http://h:1"
    assert config.pipelines["logs"].receivers == ["in"]
    assert config.extensions == [] and config.warnings == []
    assert config.telemetry.logs.level == "info"
    assert str(config.placed(Problem(("exporters", "out", "endpoint"), "refused"))).endswith(
        "c0.yaml:4: exporters.out.endpoint: refused"
    )


def test_files_are_merged_and_errors_name_the_right_one(tmp_path: Path) -> None:
    over = "receivers:\n  in:\n    count: many\n"
    assert errors(tmp_path, GOOD, over) == ["c1.yaml:3: receivers.in.count: must be a whole number, not 'many'"]
    assert component(load(tmp_path, GOOD, "receivers: {in: {count: 5}}\n"), "receivers", "in").count == 5


def test_everything_wrong_is_reported_in_one_run(tmp_path: Path) -> None:
    found = errors(
        tmp_path,
        """\
receivers:
  in:
    intervall: 5s
    interval: 10
    count: -1
    flag: 3
    names: one
    nested: {port: x, level: lo}
    many:
      - {port: 1}
      - {prot: 2}
    by_name:
      k: {name: 5}
  inn: {}
  pass: {}
procesors: {}
exporters:
  out:
    endpoint: h:1
    logs_endpoint: ftp://h
    sending_queue: {queue_size: 0}
  hole: []
extensions:
  login: {}
service:
  telemetry: {logs: {level: verbose}}
  pipelines:
    logs: {receivers: [in], processors: [nothing], exporters: [outt]}
    metric: {receivers: [in], exporters: [out]}
    traces: {receivers: [], exporters: [out]}
""",
    )
    assert found == [
        "c0.yaml:3: receivers.in.intervall: unknown key; did you mean 'interval'?",
        "c0.yaml:4: receivers.in.interval: a duration needs a unit; did you mean 10s?",
        "c0.yaml:5: receivers.in.count: must be at least 0, not -1",
        "c0.yaml:6: receivers.in.flag: must be true or false, not 3",
        "c0.yaml:7: receivers.in.names: must be a list, not 'one'; write each entry on its own line after '- '",
        "c0.yaml:8: receivers.in.nested.port: must be a whole number, not 'x'",
        "c0.yaml:8: receivers.in.nested.level: 'lo' is not one of the allowed values; did you mean 'low'?",
        "c0.yaml:11: receivers.in.many[1].prot: unknown key; did you mean 'port'?",
        "c0.yaml:13: receivers.in.by_name.k.name: must be a string, not 5; put it in quotes",
        "c0.yaml:14: receivers.inn: unknown receiver type 'inn'; did you mean 'in'?",
        "c0.yaml:15: receivers.pass: unknown receiver type 'pass'; it is one of the processors: move it there",
        "c0.yaml:16: procesors: unknown section; did you mean 'processors'?",
        "c0.yaml:19: exporters.out.endpoint: the URL 'h:1' has no scheme; put http:// or https:// in front",
        "c0.yaml:20: exporters.out.logs_endpoint: the URL 'ftp://h' is not an HTTP URL; write http://host or https://host",
        "c0.yaml:21: exporters.out.sending_queue.queue_size: must be at least 1, not 0",
        "c0.yaml:22: exporters.hole: must be a map of options; write 'option: value' lines below it",
        "c0.yaml:26: service.telemetry.logs.level: 'verbose' is not one of the allowed values; "
        "use one of DEBUG, DPANIC, ERROR, FATAL, INFO, PANIC, WARN, debug, dpanic, error, fatal, info, panic, warn",
        "c0.yaml:28: service.pipelines.logs.processors[0]: the processor 'nothing' is not defined; define it under processors",
        "c0.yaml:28: service.pipelines.logs.exporters[0]: the exporter 'outt' is not defined; did you mean 'out'?",
        "c0.yaml:29: service.pipelines.metric: 'metric' is not a valid pipeline name; did you mean 'metrics'?",
        "c0.yaml:30: service.pipelines.traces.receivers: the pipeline has no receivers; name at least one of the receivers",
    ]


def test_files_that_are_broken_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [\n")
    with pytest.raises(ConfigErrors) as caught:
        load_config([str(tmp_path / "none.yaml"), str(tmp_path / "bad.yaml"), "env:NOT_THERE", "http://x/y"], fake, {})
    assert len(caught.value.errors) == 4


def test_sources_as_the_collector_takes_them(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(GOOD)
    sources = [f"file:{tmp_path}/c.yaml", "yaml:receivers::in::count: 9", "env:MORE"]
    config = load_config(sources, fake, {"MORE": "receivers: {in: {flag: yes}}"})
    assert (component(config, "receivers", "in").count, component(config, "receivers", "in").flag) == (9, True)


def test_null_means_defaults(tmp_path: Path) -> None:
    text = GOOD.replace("  in:\n", "  in: {interval: null, nested: null, names: , auth: null, by_name: {a: null}}\n")
    options: Any = load(tmp_path, text).components["receivers"]["in"]
    assert (options.interval, options.nested.port, options.names, options.auth, options.by_name["a"].port) == (10.0, 1, [], None, 1)


def test_missing_sections(tmp_path: Path) -> None:
    assert errors(tmp_path, "receivers: {in: }\n") == [
        "c0.yaml:1: service: is required; add service.pipelines with a pipeline to run"
    ]
    assert errors(tmp_path, "service: {}\n") == ["c0.yaml:1: service.pipelines: there is no pipeline; add one, such as 'logs:'"]


def test_extensions_and_authenticators(tmp_path: Path) -> None:
    more = """\
extensions: {login/a: {}, login/b: {}}
exporters: {out: {auth: {authenticator: login/a}, sending_queue: {storage: files}}}
receivers: {in: {auth: {authenticator: login/c}}}
service: {extensions: [login/b, login/d]}
"""
    assert errors(tmp_path, GOOD, more) == [
        "c1.yaml:2: exporters.out.auth.authenticator: the extension 'login/a' is not started; add it to service.extensions",
        "c1.yaml:2: exporters.out.sending_queue.storage: the extension 'files' is not defined; "
        "define it under extensions (defined: login/a, login/b)",
        "c1.yaml:3: receivers.in.auth.authenticator: the extension 'login/c' is not defined; did you mean 'login/b'?",
        "c1.yaml:4: service.extensions[1]: the extension 'login/d' is not defined; did you mean 'login/b'?",
    ]


def test_what_is_odd_but_works_is_a_warning(tmp_path: Path) -> None:
    more = "receivers: {in: {names: [noisy]}, in/2: }\nextensions: {login: }\nprocessors: {pass: '${env:UNSET}'}\n"
    config = load(tmp_path, GOOD, more)
    assert [str(w).split("c1.yaml:")[1] for w in config.warnings] == [
        "3: processors.pass: the environment variable UNSET is not set and treated as empty; set it, or write ${env:UNSET:-default}",
        "1: receivers.in.names[0]: 'noisy' is old; write 'quiet'",
        "1: receivers.in/2: is not used by a pipeline; name it there or remove it",
        "3: processors.pass: is not used by a pipeline; name it there or remove it",
        "2: extensions.login: is not used by service.extensions; name it there or remove it",
    ]


def test_connectors_stand_on_both_sides(tmp_path: Path) -> None:
    more = """\
connectors: {forward: }
service: {pipelines: {logs: {exporters: [forward]}, logs/2: {receivers: [forward], exporters: [out]}}}
"""
    assert set(load(tmp_path, GOOD, more).components["connectors"]) == {"forward"}
    assert errors(tmp_path, GOOD, "processors: {pass: }\nservice: {pipelines: {logs: {processors: [pass, pass]}}}\n") == [
        "c1.yaml:2: service.pipelines.logs.processors[1]: 'pass' is named twice in this pipeline; name it once"
    ]


def test_what_a_pipeline_cannot_do_is_found_before_it_runs(tmp_path: Path) -> None:
    """All at once, each at its line: signals that a component lacks, connectors that join nothing, circles."""
    more = """\
exporters: {lines: }
connectors: {forward: , forward/half: , forward/mixed: , table: {table: [logs/2, logs/3]}}
service:
  pipelines:
    logs: {exporters: [out, lines, forward/half, forward/mixed, table]}
    traces: {receivers: [in, forward/mixed], exporters: [lines, hole, lines]}
    logs/2: {receivers: [table], exporters: [hole]}
    metrics: {receivers: [forward], exporters: [forward]}
    metrics/2: {receivers: [in], exporters: [hole, forward]}
"""
    assert errors(tmp_path, GOOD, "exporters: {hole: }", more) == [
        "c2.yaml:2: connectors.forward/half: is used on one side only; name it as a receiver of another pipeline as well",
        "c2.yaml:2: connectors.forward/mixed: no pipeline receives what 'logs' sends to it; name it as a receiver of a logs pipeline",
        "c2.yaml:2: connectors.forward/mixed: no pipeline sends it what 'traces' receives; name it as an exporter of a traces pipeline",
        "c2.yaml:2: connectors.table.table[1]: the pipeline 'logs/3' does not receive from 'table'; did you mean 'logs/2'?",
        "c2.yaml:6: service.pipelines.traces.exporters[0]: 'lines' does not support traces; it supports logs",
        "c2.yaml:8: service.pipelines.metrics: circular pipelines: metrics -> metrics; take one connector out",
    ]


def test_a_certificate_without_its_key_is_found_before_it_runs(tmp_path: Path) -> None:
    more = """\
exporters:
  out:
    tls: {cert_file: /c}
service:
  telemetry:
    metrics:
      readers:
        - periodic: {exporter: {otlp: {endpoint: "http://h:1", client_key: /k}}}
"""
    assert errors(tmp_path, GOOD, more) == [
        "c1.yaml:3: exporters.out.tls: cert_file and key_file must be set together; one of them is missing",
        "c1.yaml:8: service.telemetry.metrics.readers[0].periodic.exporter.otlp: client_certificate and client_key must be set "
        "together; one of them is missing",
    ]


def test_a_connector_may_join_several_signals_each_with_its_own(tmp_path: Path) -> None:
    more = """\
connectors: {forward: }
exporters: {hole: }
service:
  pipelines:
    logs: {exporters: [forward]}
    traces: {receivers: [in], exporters: [forward]}
    logs/2: {receivers: [forward], exporters: [out]}
    traces/2: {receivers: [forward], exporters: [hole]}
"""
    assert load(tmp_path, GOOD, more).warnings == []


def test_a_password_of_digits_stays_as_it_was(tmp_path: Path) -> None:
    more = "extensions: {login: {username: '${env:U}', password: '${env:P}'}}\nservice: {extensions: [login]}\n"
    login: Any = load(tmp_path, GOOD, more, U="1e5", P="0123").components["extensions"]["login"]
    assert login.username == "1e5"
    assert isinstance(login.password, SecretStr) and login.password.get_secret_value() == "0123"
    assert "0123" not in repr(login)


@pytest.mark.parametrize("url", ["user:hunter2@h:1", "ftp://user:hunter2@h"])
def test_a_password_in_a_url_is_not_shown(tmp_path: Path, url: str) -> None:
    said = errors(tmp_path, GOOD.replace("http://h:1", url))
    assert len(said) == 1 and "user:***@h" in said[0]


@pytest.mark.parametrize(
    "password",
    [
        "0123",
        "true",
        "#hash",
        "a #b",
        "a: b",
        "[a, b]",
        "{a: 1}",
        '"quoted"',
        "0x1F",
        "1e5",
        "*a",
        "!a",
        "%a",
        "- a",
        "2024-01-01",
        " a ",
        "a\nb",
        "|",
        "---",
        "no",
    ],
)
def test_any_text_can_be_a_password(tmp_path: Path, password: str) -> None:
    more = "extensions: {login: {password: '${env:P}'}}\nservice: {extensions: [login]}\n"
    login: Any = load(tmp_path, GOOD, more, P=password).components["extensions"]["login"]
    assert login.password.get_secret_value() == password


@pytest.mark.parametrize("password", ["null", "~"])
def test_null_is_no_password(tmp_path: Path, password: str) -> None:
    """As upstream."""
    more = "extensions: {login: {password: '${env:P}'}}\nservice: {extensions: [login]}\n"
    login: Any = load(tmp_path, GOOD, more, P=password).components["extensions"]["login"]
    assert login.password is None


def test_an_empty_variable_means_the_default_where_no_text_is_wanted(tmp_path: Path) -> None:
    text = GOOD.replace("  in:\n", "  in: {count: '${env:E}', interval: '${env:E}', storage: '${env:E}', names: '${env:E}'}\n")
    options: Any = load(tmp_path, text, E="").components["receivers"]["in"]
    assert (options.count, options.interval, options.storage, options.names) == (3, 10.0, "", [])


def test_a_variable_that_is_not_set_is_empty_text_or_the_default(tmp_path: Path) -> None:
    """Text where only text will do (a value of a map, an element of a list), else the default, as for an empty variable."""
    options = "{headers: {a: '${env:N}', b: 'x${env:N}'}, endpoint: 'http://h:1', logs_endpoint: '${env:N}'}"
    text = GOOD.replace('{endpoint: "http://h:1"}', options)
    text = text.replace("  in:\n", "  in: {count: '${env:N}', flag: '${env:N}', names: ['${env:N}'], nested: '${env:N}'}\n")
    config = load(tmp_path, text)
    out, receiver = component(config, "exporters", "out"), component(config, "receivers", "in")
    assert {name: value.get_secret_value() for name, value in out.headers.items()} == {"a": "", "b": "x"}
    assert out.logs_endpoint == "" and receiver.names == [""]
    assert (receiver.count, receiver.flag, receiver.nested.port) == (3, False, 1)
    assert [w.message for w in config.warnings] == ["the environment variable N is not set and treated as empty"] * 7


def test_a_variable_that_is_not_set_names_no_component(tmp_path: Path) -> None:
    (said,) = errors(tmp_path, GOOD.replace("[in]", "['${env:N}']"))
    assert "service.pipelines.logs.receivers[0]: the receiver named here is not defined" in said


def test_pipelines_of_profiles_are_left_out_with_what_only_they_need(tmp_path: Path) -> None:
    more = """
receivers: {ebpf: {x: 1}, redis: {}}
service:
  pipelines:
    profiles: {receivers: [ebpf, in], exporters: [out]}
    profiles/2: {receivers: [redis], exporters: [missing]}
    logs/2: {receivers: [redis], exporters: [out]}
"""
    assert errors(tmp_path, GOOD, more) == [
        "c1.yaml:2: receivers.redis: unknown receiver type 'redis'; the Go collector has it, kofagent does not; "
        "docs/components lists what there is",
    ]
    config = load(tmp_path, GOOD, more.replace("redis", "in"))
    assert list(config.service.pipelines) == ["logs", "logs/2"]
    assert [(w.path, w.message) for w in config.warnings] == [
        (("service", "pipelines", name), "profiles are not supported, so the pipeline is left out")
        for name in ("profiles", "profiles/2")
    ] + [(("receivers", "ebpf"), "only pipelines of profiles use it, so the receiver is left out")]
    assert config.root.get("service", "pipelines", "profiles") is not None, "the configuration is shown as it was written"


def test_only_profiles_is_nothing_to_run(tmp_path: Path) -> None:
    assert errors(tmp_path, GOOD.replace("logs:", "profiles:")) == [
        "c0.yaml:6: service.pipelines: there is no pipeline; add one, such as 'logs:'"
    ]


@pytest.mark.parametrize("option", ["count", "flag", "interval", "names", "nested", "either", "by_name", "many", "auth", "unknown"])
@pytest.mark.parametrize("secret", ["hunter2-correct-horse", "q7", "[hunter2, 3]", "{hunter2: 1}"])
def test_no_message_shows_what_came_from_the_environment(tmp_path: Path, option: str, secret: str) -> None:
    text = GOOD.replace("  in:\n", f"  in: {{{option}: '${{env:S}}'}}\n")
    try:
        load(tmp_path, text, S=secret)
    except ConfigErrors as found:
        said = str(found).replace(str(tmp_path), "")
        assert "q7" not in said.split() and "'q7'" not in said
        # a key of a map is part of the path and is named; values never are
        assert "hunter2" not in said or secret.startswith("{")
        assert "c0.yaml:2" in said
    else:
        assert option in ("names", "either", "nested", "by_name", "many") or secret == "q7"


def test_a_union_tells_what_was_meant(tmp_path: Path) -> None:
    assert errors(tmp_path, GOOD.replace("  in:\n", "  in: {either: {prot: 1}}\n")) == [
        "c0.yaml:2: receivers.in.either.prot: unknown key; did you mean 'port'?"
    ]
    assert errors(tmp_path, GOOD.replace("  in:\n", "  in: {either: 5}\n")) == [
        "c0.yaml:2: receivers.in.either: must be a map, not 5, or must be a list, not 5; "
        "write 'key: value' lines below it or write each entry on its own line after '- '"
    ]


def test_prometheus_takes_scalars_by_their_text(tmp_path: Path) -> None:
    more = "receivers: {prometheus: {config: {scrape_configs: [{job_name: 7, regex: 1.10}]}}}\n"
    options: Any = load(tmp_path, GOOD, more).components["receivers"]["prometheus"]
    assert options.config["scrape_configs"] == [{"job_name": "7", "regex": "1.10"}]


def test_names_of_components(tmp_path: Path) -> None:
    assert errors(tmp_path, GOOD, "receivers: {in/: {}, '1x': {}, 'a b': {}}\n") == [
        f"c1.yaml:1: receivers.{name}: {name!r} is not a valid component name; write type or type/name"
        for name in ("in/", "1x", "a b")
    ]
    more = "exporters: {out_old/x: {endpoint: 'http://h'}}\nservice: {pipelines: {logs: {exporters: [out_old/x]}}}\n"
    assert load(tmp_path, GOOD, more).components["exporters"]["out_old/x"]


def test_telemetry(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        GOOD,
        """\
service:
  telemetry:
    logs: {level: debug, encoding: json, output_paths: [stdout], initial_fields: {a: 1}}
    metrics:
      level: detailed
      address: 0.0.0.0:8888
      readers:
        - pull: {exporter: {prometheus: {host: 127.0.0.1, port: 9999}}}
        - periodic: {interval: 1000, exporter: {otlp: {protocol: http/protobuf, endpoint: "http://h:4318"}}}
    resource: {service.name: me, host.name: null}
""",
    )
    metrics = config.telemetry.metrics
    assert metrics.readers is not None and metrics.readers[0].pull is not None
    assert metrics.readers[0].pull.exporter.prometheus.port == 9999
    assert metrics.readers[1].periodic.exporter.otlp.endpoint == "http://h:4318"
    assert config.telemetry.resource == {"service.name": "me", "host.name": None}


@pytest.mark.parametrize(
    ("options", "want"),
    [
        (
            "address: 'host:'",
            "c1.yaml:4: service.telemetry.metrics.address: 'host:' has no port after the colon; write for example localhost:4317",
        ),
        ("address: 'host:\u00b2'", "c1.yaml:4: service.telemetry.metrics.address: 'host:\u00b2': '\u00b2' is not a port number"),
        ("address: 'host:port'", "c1.yaml:4: service.telemetry.metrics.address: 'host:port': 'port' is not a port number"),
        (
            "address: localhost",
            "c1.yaml:4: service.telemetry.metrics.address: 'localhost' is not host:port; write for example localhost:4317",
        ),
        (
            "readers: [{periodic: {exporter: {otlp: {endpoint: 'h:4318'}}}}]",
            "c1.yaml:4: service.telemetry.metrics.readers[0].periodic.exporter.otlp.endpoint: the URL has no scheme; "
            "put http:// or https:// in front",
        ),
    ],
)
def test_where_own_metrics_cannot_go(tmp_path: Path, options: str, want: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load(tmp_path, GOOD, f"service:\n  telemetry:\n    metrics:\n      {options}\n")
    assert [str(e).replace(f"{tmp_path}/", "") for e in caught.value.errors] == [want]


def test_the_effective_configuration_holds_references_only(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD.replace("http://h:1", "${env:URL}"), URL="http://user:pass@h")
    assert config.effective["exporters"]["out"]["endpoint"] == "${env:URL}"
    assert "pass@h" not in repr(config)


def test_an_option_without_effect_is_a_warning_where_a_user_set_it(tmp_path: Path) -> None:
    text = GOOD.replace("  in:\n", "  in: {old: true}\n")
    config = load(tmp_path, text.replace("", ""))
    assert [str(w).replace(f"{tmp_path}/", "") for w in config.warnings] == [
        "c0.yaml:2: receivers.in.old: has no effect; nothing reads it"
    ]
    assert all(w.warning for w in config.warnings)
    assert load(tmp_path, text.replace("true", "false")).warnings == []


@pytest.mark.parametrize("name, called", [("${env:S}", "named here"), ("hunter2", "'hunter2'")])
def test_a_name_from_the_environment_is_never_shown(tmp_path: Path, name: str, called: str) -> None:
    (said,) = errors(tmp_path, GOOD.replace("exporters: [out]", f"exporters: [out, '{name}']"), S="hunter2")
    assert f"the exporter {called} is not defined" in said and said.count("hunter2") == (name == "hunter2")


def test_a_url_from_the_environment_is_never_shown(tmp_path: Path) -> None:
    text = GOOD.replace("http://h:1", "${env:URL}")
    assert errors(tmp_path, text, URL="user:hunter2@h:1") == [
        "c0.yaml:4: exporters.out.endpoint: the URL has no scheme; put http:// or https:// in front"
    ]


def test_suggestions_are_one_sentence_each() -> None:
    assert suggest("recievers", ["receivers", "exporters"]) == "did you mean 'receivers'?"
    assert suggest("x", ["abc"]) == "use abc"
    assert suggest("x", ["abc", "def"]) == "use abc or def"
    assert suggest("x", ["abc", "def", "ghi"]) == "use one of abc, def, ghi"
    assert suggest("x", ["abc", "def", "ghi"], limit=2) == "use one of abc, def, ... (1 more)"
    assert suggest("x", []) == suggest("x", ["abc"], limit=0) == ""


def test_what_could_not_be_resolved_is_one_error_not_two(tmp_path: Path) -> None:
    text = GOOD.replace("  in:\n", "  in: {nested: {level: '${file:/no/such/file}'}}\n")
    (found,) = errors(tmp_path, text)
    assert found.startswith("c0.yaml:2: receivers.in.nested.level: the file '/no/such/file' cannot be read")


def test_what_a_generated_pipeline_sets_without_effect_is_not_mentioned() -> None:
    options = fake.In(old=True)
    for layer, want in (("user", ["old"]), ("default", []), ("generated", [])):
        found = notices(options, node_of({"old": True}, Origin(layer=layer)))
        assert [problem.path[0] for problem in found] == want


def test_markers_are_of_scalars() -> None:
    node = node_of({"storage": {"a": 1}, "auth": {"authenticator": "x"}}, Origin())
    assert [path for path, _ in marked(node, fake.In, EXTENSION)] == [("auth", "authenticator")]


@pytest.mark.parametrize(
    ("endpoint", "want"),
    [
        ("localhost:99999", "'localhost:99999': '99999' is not a port number"),
        ("localhost", "'localhost' is not host:port; write for example localhost:4317"),
        ("http://0.0.0.0:4318", "'http://0.0.0.0:4318' is not host:port; write for example localhost:4317"),
    ],
)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_what_cannot_be_listened_on_is_found_before_anything_starts(
    endpoint: str, want: str, protocol: str, tmp_path: Path
) -> None:
    def text(options: str) -> str:
        return (
            f"receivers: {{otlp: {{protocols: {{{protocol}: {options}}}}}}}\nexporters: {{debug: {{}}}}\n"
            "service: {pipelines: {logs: {receivers: [otlp], exporters: [debug]}}}\n"
        )

    file = tmp_path / "otel.yaml"
    file.write_text(text(f"{{endpoint: {endpoint!r}}}"))
    with pytest.raises(ConfigErrors) as errors:
        load_config([str(file)], registry)
    assert str(errors.value).startswith(f"{file}:1: receivers.otlp.protocols.{protocol}.endpoint: {want}")
    file.write_text(text("{transport: unix, endpoint: /run/otlp.sock}"))
    load_config([str(file)], registry)
