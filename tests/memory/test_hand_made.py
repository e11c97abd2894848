"""Nothing is remembered outside of Memos, but for these."""

from __future__ import annotations

import ast

import pytest

from tests import rooms
from tests.memory import hand_made

_CONFIGURATION = "grows with the configuration only"
_CALL = "lives as long as one piece of work"
_QUEUE = "data that waits, not an answer that is remembered: what there is no room for is counted"

OTHERS = {
    "processors/resourcedetection/processor.py:self._last": "one for each detector of the configuration",
    "prometheus/budgets.py:self._namespaces": "stops at MOST_NAMESPACES; weak, so one is gone with its last target",
    "receivers/prometheus/receiver.py:self._over": "stops at MOST_NAMESPACES",
    "transform/spans.py:self._groups": _CALL,
    "values/presets.py:_blocks()": _CONFIGURATION,
    "values/to_kof_1.py:self.env": _CONFIGURATION,
    "values/versions.py:_defaults()": "one for each known version of the charts",
    "values/versions.py:versions()": "the known versions of the charts",
    "connectors/spanmetrics/connector.py:self._waiting": _QUEUE,
    "connectors/spanmetrics/series.py:self.resources": "counts, not answers: what has no room is counted as overflow, within 64 MiB",
    "cli/state.py:_locked": "directories of this process, one for each role",
    "component/disk_queue.py:self._kinds": "one for each signal",
    "component/segment_log.py:self._files": "open files, _OPEN_FILES of them",
    "config/references.py:done": _CONFIGURATION,
    "config/references.py:self._used": _CONFIGURATION,
    "net/timing.py:self._by_origin": "the certificates of at most 100 servers of a client, for as long as it lives",
    "ottl/functions/editors.py:found": _CALL,
    "ottl/functions/editors.py:used": _CALL,
    "ottl/grok.py:compile_grok()": "patterns of the configuration, 64 at most",
    "ottl/grok.py:self.fields": _CONFIGURATION,
    "ottl/expressions.py:self.bound": _CONFIGURATION,
    "ottl/item.py:item_class()": "one for each set of fields that statements read",
    "ottl/item.py:lens()": "one for each set of fields that statements read",
    "ottl/messages.py:_requests()": "one for each signal",
    "ottl/strptime.py:zone()": "names of time zones in the configuration, 256 at most",
    "wire/otlp.py:request_descriptor()": "one for each signal",
    "wire/otlp_check.py:_checks()": "one for each signal",
    "wire/otlp_check.py:self._classes": "one for each message of OTLP",
    "wire/otlp_check.py:self._ids": "one for each message of OTLP",
    "wire/otlp_text.py:_texts_and_messages()": "one for each message of OTLP",
    "component/accounts.py:self._accounts": "one for each signal",
    "component/half_sent.py:self._sent": "batches that went back in part, the oldest of MOST are forgotten; forgetting one sends it twice",
    "component/log_limit.py:self._written": "of more than MOST_KEYS keys the later ones are not written; a Memo would write them again",
    "component/requests.py:self.dropped": "the closed list of reasons",
    "config/base.py:_takes_null()": _CONFIGURATION,
    "exporters/debug/exporter.py:self._counts": "one for each signal",
    "exporters/file/exporter.py:self._writers": "open files, max_open_files of them",
    "exporters/prometheusremotewrite/translate.py:self._warned": "stops at 100",
    "exporters/prometheusremotewrite/translated.py:self.dropped": "the closed list of reasons",
    "memory/account.py:self._counts": "the names of Memos, written in the source",
    "memory/memo.py:Memo": "this is it",
    "memory/pressure.py:self._owners": "the names of owners, written in the source",
    "memory/usage.py:_cgroups()": "the folders of one process",
    "net/client.py:_proxy_of()": "servers of the configuration, 1000 at most; what a proxy is does not change while the agent runs",
    "net/foreign.py:self._hosts": "stops at 64",
    "net/http2/stream.py:self._body": "a message that comes, within its budget",
    "net/routes.py:self._below": "the pages of a server",
    "net/routes.py:self._pages": "the pages of a server",
    "operators/build.py:done": _CONFIGURATION,
    "operators/compile.py:load()": _CONFIGURATION,
    "operators/compile.py:self._groups": "records that wait for take(), which has the bounds",
    "operators/expression/compile.py:self._plain": _CONFIGURATION,
    "operators/stand_in.py:self.given": _CALL,
    "operators/series.py:self.holds": "one for each file that a part of the series is from",
    "operators/timelayout.py:_abbreviations()": "those of time zones in a month, 256 at most",
    "operators/timelayout.py:_named()": "names of time zones, 64 at most",
    "operators/types/recombine.py:parts": _CALL,
    "ottl/messages.py:_lenient()": "one for each kind of message",
    "pipeline/graph.py:self.heads": _CONFIGURATION,
    "pipeline/graph.py:self.processors": _CONFIGURATION,
    "pipeline/own_log.py:self._said": "one for each output of the log",
    "processors/k8sattributes/cluster.py:new": _CALL,
    "processors/k8sattributes/patience.py:self._asked": "when it is full nobody waits, so that a flood of unknown pods holds up nothing",
    "processors/k8sattributes/cluster.py:self._objects": "mirrors the API server",
    "processors/k8sattributes/extract.py:only": _CALL,
    "processors/k8sattributes/pods.py:self._leaving": "pods in their grace period, the oldest leave earlier when there are MAX_GONE",
    "processors/k8sattributes/processor.py:self._counters": "one for each rule of pod_association",
    "processors/resourcedetection/env.py:parts": _CALL,
    "prometheus/discovery/kubernetes/labels.py:self._seen": _CALL,
    "prometheus/discovery/kubernetes/lookup.py:self._by_place": _CONFIGURATION,
    "prometheus/monitors/unread.py:self._asked": _CALL,
    "prometheus/target.py:labels": _CALL,
    "receivers/filelog/files.py:self._closed": "checkpoints, kept on disk; the oldest goes when there are `remembered`",
    "receivers/filelog/files.py:self._lineages": "paths of files that are followed; it refers to them weakly",
    "receivers/filelog/find.py:self._irregular": "stops at the number that is reported",
    "receivers/filelog/globs.py:self._regexes": _CONFIGURATION,
    "receivers/hostmetrics/recorder.py:self._sinks": "one for each metric",
    "receivers/hostmetrics/recorder.py:self.points": "of one round; the writer empties it",
    "receivers/hostmetrics/scrapers/filesystem.py:seen": _CALL,
    "receivers/journald/file.py:self._slice": "the next places of entries, at most _SLICE",
    "receivers/journald/journal.py:self._done": "files that are there; what is gone is forgotten in each round",
    "receivers/journald/journal.py:self._heads": "stops at MOST_JOURNALS",
    "receivers/journald/journal.py:self.last": "positions, kept on disk; the oldest goes when there are MOST_JOURNALS",
    **dict.fromkeys([f"receivers/journald/matches.py:self.{n}" for n in ("_bits", "_exact", "_patterns")], _CONFIGURATION),
    "receivers/k8s_cluster/entity_log.py:waiting": _QUEUE,
    "receivers/kubeletstats/claims.py:self._ask_again": "what is not on the node any more is forgotten in each round",
    "receivers/kubeletstats/claims.py:self.attributes": "what is not on the node any more is forgotten in each round",
    "region/stores.py:self._records": "a store for trying out, bounded by its options",
    "region/stores.py:self._series": "a store for trying out, bounded by its options",
    "region/stores.py:self._traces": "a store for trying out, bounded by its options",
    "telemetry/ledger.py:self._metrics": "the names of metrics, written in the source",
    "telemetry/reasons.py:_unlisted": "stops at _LOGGED_MOST",
    "wire/edit.py:_lens()": "one for each kind of message",
    "wire/otlp.py:checker()": "one for each signal",
    "wire/otlp_json.py:_writers()": "one for each kind of message",
    "wire/otlp_json.py:table_of()": "one for each kind of message",
    "wire/otlp_json_stream.py:_fields()": "one for each kind of message",
    "wire/otlp_json_stream.py:self._too_long": "one for each field that has messages",
    "wire/remote_write.py:_packer()": "one for each length of a varint",
}
"""Dicts and caches that look like memos, and why they are none, or need no bound."""


def test_what_is_remembered_is_in_memos() -> None:
    found = {place for path in rooms.files() for place in hand_made.places(path, rooms.ROOT)}
    assert sorted(found - OTHERS.keys()) == [], "use kofagent.memory.memo.Memo, or say here why it is no memory of data"
    assert sorted(OTHERS.keys() - found) == [], "these are gone"


@pytest.mark.parametrize(
    "text",
    [
        "known = {}\ndef f(k):\n    if len(known) > 5:\n        known.clear()\n    known[k] = 1\n",
        "class A:\n    def f(self, k):\n        while len(self.x) >= MOST:\n            self.x.popitem(last=False)\n",
        "class A:\n    def f(self, k):\n        if len(self.x) >= 7:\n            del self.x[next(iter(self.x))]\n",
        "class A:\n    def f(self, k):\n        if 7 < len(self.x):\n            self.x = {}\n",
        "known = {}\ndef f(k):\n    v = known.get(k)\n    if v is None:\n        v = known[k] = g(k)\n    return v\n",
        "known: dict[str, int] = {}\ndef f(ks):\n    get = known.get\n    return [get(k) or learn(k) for k in ks]\n"
        "def learn(k):\n    known[k] = g(k)\n",
        "class A:\n    def __init__(self):\n        self.seen = set()\n    def f(self, k):\n"
        "        if k not in self.seen:\n            self.seen.add(k)\n",
        "class A:\n    def __init__(self):\n        self.x = OrderedDict()\n    def f(self, k):\n        return self.x.setdefault(k, k)\n",
        "def f():\n    known = {}\n    def g(k):\n        if k not in known:\n            known[k] = h(k)\n        return known[k]\n    return g\n",
        "class A(dict):\n    def __missing__(self, k):\n        return k\n",
        "@lru_cache(maxsize=100)\ndef f(k):\n    return k\n",
        "@functools.cache\ndef f(k):\n    return k\n",
    ],
)
def test_it_is_found(text: str) -> None:
    tree = ast.parse(text)
    finders = (hand_made.bounded_by_hand, hand_made.never_smaller, hand_made.filled_by_itself, hand_made.cached)
    assert [name for find in finders for name in find(tree)]


@pytest.mark.parametrize(
    "text",
    [
        "def f(ks):\n    counts = {}\n    for k in ks:\n        counts[k] = counts.get(k, 0) + 1\n    return counts\n",
        "class A:\n    def __init__(self):\n        self.x = {}\n    def f(self, k):\n        self.x[k] = self.x.get(k, 0) + 1\n"
        "    def g(self, k):\n        self.x.pop(k, None)\n",
        "known = Memo('a.b', make, entries=5, size=100)\ndef f(k):\n    return known[k]\n",
        "def f(data):\n    if len(data) > 5:\n        data = data[:5]\n    return data\n",
    ],
)
def test_what_is_none_is_not(text: str) -> None:
    tree = ast.parse(text)
    finders = (hand_made.bounded_by_hand, hand_made.never_smaller, hand_made.filled_by_itself, hand_made.cached)
    assert not [name for find in finders for name in find(tree)]
