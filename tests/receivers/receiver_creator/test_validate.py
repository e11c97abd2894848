"""What is wrong with the receivers of a creator is found when the configuration is loaded, with file, line, path and suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest

from kofagent.component import registry
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import load_config

HEAD = """\
extensions: {host_observer: , file_storage: {directory: /tmp}, basicauth: {client_auth: {username: u, password: p}}}
exporters: {debug: }
service:
  extensions: [host_observer, file_storage]
  pipelines: {logs: {receivers: [receiver_creator], exporters: [debug]}}
receivers:
  receiver_creator:
"""


def problems(tmp_path: Path, text: str, **environ: str) -> list[str]:
    """What is said, without the name of the file: LINE: PATH: ... with the path below the creator."""
    file = tmp_path / "c.yaml"
    file.write_text(HEAD + text)
    try:
        found = [str(each) for each in load_config([str(file)], registry, environ).warnings]
    except ConfigErrors as errors:
        found = [str(each) for each in errors.errors]
    return [each.replace(f"{file}:", "").replace("receivers.receiver_creator.", "") for each in found if "is not used" not in each]


def test_a_creator_without_mistakes(tmp_path: Path) -> None:
    text = """\
    watch_observers: [host_observer]
    receivers:
      filelog:
        rule: type == "pod.container" && pod.labels["x"] == "y"
        config:
          include: ['/x/`pod.name`/*.log']
          poll_interval: '`pod.labels["poll"]`'
          max_log_size: '`pod.annotations.size`'
          storage: file_storage
          attributes: {n: '${env:N}', m: '`container_name`'}
        resource_attributes: {a: '`pod.uid`'}
      kubelet_stats: {rule: type == "k8s.node", config: {auth_type: serviceAccount}}
    resource_attributes: {pod.container: {container.id: ''}}
    discovery: {enabled: true}
"""
    assert problems(tmp_path, text, N="007") == []


@pytest.mark.parametrize(
    "text, said",
    [
        (
            "    watch_observers: [file_storage]\n",
            ["8: watch_observers[0]: the extension 'file_storage' cannot observe endpoints; name another one"],
        ),
        (
            "    watch_observers: [host_observr]\n",
            ["8: watch_observers[0]: the extension 'host_observr' is not defined; did you mean 'host_observer'?"],
        ),
        (
            '    receivers: {filelgo: {rule: type == "pod"}}\n',
            ["8: receivers.filelgo: unknown receiver type 'filelgo'; did you mean 'filelog'?"],
        ),
        (
            '    receivers: {receiver_creator/1: {rule: type == "pod"}}\n',
            ["8: receivers.receiver_creator/1: a receiver_creator cannot start another one; remove it"],
        ),
        (
            "    receivers: {nop: {rules: x}}\n",
            ["8: receivers.nop.rule: is required; set it", "8: receivers.nop.rules: unknown key; did you mean 'rule'?"],
        ),
        (
            '    receivers:\n      nop:\n        rule: type == "pd"\n',
            [
                "10: receivers.nop.rule: there are no endpoints of type 'pd'; use one of pod, port, pod.container, hostport, container, "
                "k8s.service, k8s.ingress, k8s.node, kafka.topics"
            ],
        ),
        (
            '    receivers:\n      nop:\n        rule: type == "pod" && )\n',
            ["10: receivers.nop.rule: expression 'type == \"pod\" && )': unexpected ')' at column 18"],
        ),
        (
            '    receivers:\n      filelog:\n        rule: type == "pod"\n        config:\n          inclde: [a]\n          include: [a]\n'
            "          max_log_size: '`name`'\n          poll_interval: 10\n          storage: file_storag\n",
            [
                "12: receivers.filelog.config.inclde: unknown key; did you mean 'include'?",
                "15: receivers.filelog.config.poll_interval: a duration needs a unit; did you mean 10s?",
                "16: receivers.filelog.config.storage: the extension 'file_storag' is not defined; did you mean 'file_storage'?",
            ],
        ),
        (
            '    receivers:\n      filelog:\n        rule: type == "pod"\n        config: {include: [a], operators: [{type: moev}]}\n',
            ["11: receivers.filelog.config.operators[0].type: unknown operator 'moev'; did you mean 'move'?"],
        ),
        (
            '    receivers:\n      filelog:\n        rule: type == "pod"\n        config: {include: ["`name"]}\n',
            ["11: receivers.filelog.config.include[0]: a backtick is not closed: '`name'; write \\` for one that is meant"],
        ),
        (
            '    receivers: {filelog: {rule: type == "pod"}}\n',
            ["8: receivers.filelog.config.include: is required; set it"],
        ),
        (
            '    receivers: {filelog: {rule: type == "pod", config: [a]}}\n',
            ["8: receivers.filelog.config: must be a map, not a list; write 'key: value' lines below it"],
        ),
        (
            '    receivers: {nop: {rule: type == "pod"}}\n    resource_attributes: {pdo: {a: b}}\n',
            ["9: resource_attributes.pdo: there are no endpoints of type 'pdo'; did you mean 'pod'?"],
        ),
        (
            '    watch_observers: [host_observer]\n    receivers: {nop: {rule: type == "pod" && nmae == "a"}}\n',
            ["9: receivers.nop.rule: endpoints of type 'pod' have no 'nmae', so it is always nil; did you mean 'name'?"],
        ),
        (
            '    watch_observers: [host_observer]\n    receivers: {otlp: {rule: type == "pod", config: {protocols: {http: '
            "{include_metadata: '`pod.name`'}}}}}\n",
            ["9: receivers.otlp.config.protocols.http.include_metadata: endpoints of type 'pod' have no 'pod'"],
        ),
        ("    receivers: {}\n", ["7: watch_observers: no observer is watched, so no receiver is started; name one"]),
        (
            "    watch_observers: [host_observer]\n",
            ["7: receivers: there is nothing to start; add a receiver, or enable discovery"],
        ),
    ],
)
def test_mistakes(tmp_path: Path, text: str, said: list[str]) -> None:
    found = problems(tmp_path, text)
    assert [each for each in found if any(each.startswith(sentence) for sentence in said)] == found, found
    assert len(found) == len(said), found


def test_an_extension_that_a_receiver_names_has_to_run(tmp_path: Path) -> None:
    text = '    receivers:\n      kubeletstats:\n        rule: type == "k8s.node"\n        config: {storage: x}\n      filelog: {rule: type == "pod", config: {include: [a], storage: basicauth}}\n'
    found = problems(tmp_path, text)
    assert any("config.storage: the extension 'basicauth' is not started" in each for each in found), found
    assert any("config.storage: the extension 'basicauth' cannot store data" in each for each in found), found


def test_no_message_shows_a_secret(tmp_path: Path) -> None:
    text = '    receivers: {filelog: {rule: type == "pod", config: {include: [a], encoding: "${env:SECRET}"}}}\n'
    [said] = problems(tmp_path, text, SECRET="correct-horse")
    assert "encoding" in said and "correct-horse" not in said
