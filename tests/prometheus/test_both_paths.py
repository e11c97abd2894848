"""What is scraped is the same by remote write, which takes columns, and as OTLP: types, target_info, beginnings and ends."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from kofagent.exporters.prometheusremotewrite.columns import Targets
from kofagent.exporters.prometheusremotewrite.naming import Naming
from kofagent.exporters.prometheusremotewrite.translate import Translator
from kofagent.exporters.prometheusremotewrite.translated import Options
from kofagent.prometheus.client import FetchError, Page
from kofagent.prometheus.config import GlobalConfig, ScrapeConfig
from kofagent.prometheus.discovery.group import Group
from kofagent.prometheus.otlp import INCONSISTENT, to_otlp
from kofagent.prometheus.scrape import STALE, ScrapeLoop
from kofagent.prometheus.target import Target, build_targets, sample_rules, target_rules
from kofagent.telemetry.batch import MetricBatch
from kofagent.wire import remote_write
from kofagent.wire.remote_write_reader import Labels, read_write_request

NOW = 1_795_257_868_000
OWN = {"job": "j", "instance": "h:1"}
Sample = tuple[int, str]


class Pages:
    """The client of a loop: gives the pages in turn, and fails where one is None."""

    def __init__(self, pages: Iterable[bytes | None], media: str) -> None:
        self._pages = iter(pages)
        self._headers = {"content-type": media}

    async def get(self, *_: Any) -> Page:
        page = next(self._pages)
        if page is None:
            raise FetchError("down")
        return Page(200, self._headers, page)


def scraped(
    pages: Sequence[bytes | None],
    media: str = "text/plain",
    ends: bool = False,
    superseded: str = "",
    trim: bool = False,
    **options: Any,
) -> list[MetricBatch]:
    """The batches of these pages, a second apart; `ends`: and that of the target's end."""
    job = ScrapeConfig.model_validate({"job_name": "j", "scrape_interval": "10ms", "scrape_timeout": "10ms", **options})
    job.inherit(GlobalConfig())
    (target,) = build_targets(job, target_rules(job), [Group("0", ({"__address__": "h:1"},), {})])[0]
    out: list[MetricBatch] = []
    client: Any = Pages(pages, media)

    def emit(target: Target, batch: MetricBatch) -> None:
        to_otlp(batch)  # what the series are now is remembered with the batch
        out.append(batch)

    loop = ScrapeLoop(
        target, job, client, rules=sample_rules(job), external={}, emit=emit, log=logging.getLogger("x"), trim_suffixes=trim
    )

    async def run() -> None:
        for i in range(len(pages)):
            await loop.scrape(NOW + 1000 * i)
        if ends:
            await loop.end(lambda series: series.name == superseded)

    asyncio.run(run())
    return out


def text(value: float) -> str:
    return "stale" if remote_write.sample(value, 1) == remote_write.sample(STALE, 1) else str(float(value))


def by_columns(batch: MetricBatch, targets: Targets) -> dict[Labels, list[Sample]]:
    out: dict[Labels, list[Sample]] = {}
    pieces = list(targets.infos(batch))
    for group in batch.groups:
        pieces += remote_write.encode_samples(targets.label_bytes(group), group.values, group.timestamp_ms)
    for labels, samples in read_write_request(b"".join(pieces)):
        out.setdefault(labels, []).extend((at, text(value)) for at, value in samples)
    return out


def by_otlp(batch: MetricBatch, translator: Translator) -> dict[Labels, list[Sample]]:
    out: dict[Labels, list[Sample]] = {}
    translated = translator.translate(to_otlp(batch).payload)
    pieces = remote_write.encode_samples(translated.labels, translated.values, translated.times)
    for labels, samples in read_write_request(b"".join(pieces)):
        out.setdefault(labels, []).extend((at, text(value)) for at, value in samples)
    return out


def new_targets(namespace: str = "", suffixes: bool = False) -> Targets:
    naming = Naming(namespace, suffixes) if namespace or suffixes else None
    return Targets({}, None, True, namespace, naming=naming)


def new_translator(namespace: str = "", suffixes: bool = False) -> Translator:
    return Translator(Options(scope_info=False, scraped_suffixes=suffixes, namespace=namespace), print)


@pytest.mark.parametrize("suffixes,names", [(False, {"b", "b_total", "g_total"}), (True, {"b_total", "g_total"})])
def test_a_counter_keeps_the_name_of_its_page_unless_told_otherwise(suffixes: bool, names: set[str]) -> None:
    page = b'# TYPE b counter\nb 1\n# TYPE b_total counter\nb_total{x="y"} 1\n# TYPE g_total gauge\ng_total 1\n'
    (batch,) = scraped([page])
    both = by_columns(batch, new_targets(suffixes=suffixes)), by_otlp(batch, new_translator(suffixes=suffixes))
    for found in both:
        assert {dict(labels)["__name__"] for labels in found if dict(labels)["__name__"][0] in "bg"} == names
    # what was not scraped has suffixes all the same
    plain = ExportMetricsServiceRequest()
    metric = plain.resource_metrics.add().scope_metrics.add().metrics.add(name="b", unit="s")
    metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, 2
    metric.sum.data_points.add(as_int=1, time_unix_nano=NOW * 1_000_000)
    assert b"b_seconds_total" in new_translator(suffixes=suffixes).translate(plain.SerializeToString()).labels[0]


def test_names_that_were_trimmed_get_their_suffixes_back() -> None:
    (batch,) = scraped([b"# TYPE b_seconds_total counter\nb_seconds_total 1\n"], trim=True)
    assert "b_seconds" in metrics(batch)
    assert "b_seconds_total" in {dict(labels)["__name__"] for labels in by_otlp(batch, new_translator())}


def infos(samples: Mapping[Labels, list[Sample]]) -> dict[frozenset[str], list[Sample]]:
    """The samples of target_info, by the labels besides the identity, as `name=value`."""
    return {
        frozenset(f"{k}={v}" for k, v in labels if k not in ("__name__", "job", "instance")): at
        for labels, at in samples.items()
        if ("__name__", "target_info") in labels
    }


_INFO = st.sampled_from(
    [
        "",
        '# TYPE target_info gauge\ntarget_info{region="eu"} 1\n',
        'target_info{region="us",server_port="7"} 1\n',
        'target_info{job="other",instance="x:9",region="eu"} 1\n',
    ]
)
_PARTS = st.sampled_from(
    [
        "# TYPE c_total counter\n# HELP c_total Some.\nc_total %d\n",
        '# TYPE g gauge\ng{a="1"} %d\n',
        'g{job="other",instance="x:9"} %d\n',
        '# TYPE h histogram\nh_bucket{le="1"} %d\nh_bucket{le="+Inf"} 9\nh_sum 5\nh_count 9\n',
        '# TYPE f histogram\nf_bucket{le="1"} %d\nf_sum 5\n',
        '# TYPE s summary\ns{quantile="0.5"} %d\ns_sum 5\ns_count 9\n',
        '# TYPE q summary\nq{quantile="0.5"} %d\nq_sum 5\n',
        "u %d\n",
    ]
)
_page = st.one_of(st.none(), st.tuples(_INFO, st.lists(_PARTS, max_size=5, unique=True), st.integers(0, 9)))
RENAME = [{"source_labels": ["__name__"], "regex": "([cghs].*)", "target_label": "__name__", "replacement": "new_$1"}]


@given(st.lists(_page, min_size=1, max_size=4), st.booleans(), st.booleans(), st.sampled_from(["", "n"]), st.booleans())
def test_remote_write_and_otlp_agree(given_pages: list[Any], renamed: bool, honor: bool, namespace: str, suffixes: bool) -> None:
    pages = [None if p is None else (p[0] + "".join(part % p[2] for part in p[1])).encode() for p in given_pages]
    options: dict[str, Any] = {"metric_relabel_configs": RENAME if renamed else [], "honor_labels": honor}
    targets, translator = new_targets(namespace, suffixes), new_translator(namespace, suffixes)
    info = ("__name__", "n_target_info" if namespace else "target_info")
    for batch in scraped(pages, **options):
        columns, otlp = by_columns(batch, targets), by_otlp(batch, translator)
        # that a target is over is known of columns only
        ended = {labels for labels, samples in columns.items() if info in labels and samples[-1][1] == "stale"}
        assert {k: v for k, v in columns.items() if k not in ended} == {k: v for k, v in otlp.items() if k not in ended}
        for labels, samples in columns.items():
            assert len({at for at, _ in samples}) == len(samples), labels
        identities = [
            (dict(labels)["job"], dict(labels)["instance"]) for labels in columns if labels not in ended and info in labels
        ]
        assert len(set(identities)) == len(identities), "one target_info a target"


def test_target_info_of_a_page_describes_its_target_and_ends_with_it() -> None:
    eu, us = b'target_info{region="eu"} 1\ng 1\n', b'target_info{region="us"} 1\n'
    batches = scraped([eu, eu, None, us, b"g 2\n"], ends=True)
    targets = new_targets()
    found = [infos(by_columns(batch, targets)) for batch in batches]
    plain = {"server_port=1", "url_scheme=http", "server_address=h"}
    in_eu, in_us, bare = frozenset({"region=eu", *plain}), frozenset({"region=us", *plain}), frozenset(plain)
    at = [NOW + 1000 * i for i in range(5)]
    assert found[:5] == [
        {in_eu: [(at[0], "1.0")]},
        {in_eu: [(at[1], "1.0")]},
        {in_eu: [(at[2], "1.0")]},
        {in_us: [(at[3], "1.0")], in_eu: [(at[3], "stale")]},
        {bare: [(at[4], "1.0")], in_us: [(at[4], "stale")]},
    ]
    ((labels, ((_, value),)),) = found[5].items()
    assert (labels, value) == (bare, "stale")
    for batch in batches:
        resources = ExportMetricsServiceRequest.FromString(to_otlp(batch).payload).resource_metrics
        assert len({r.resource.SerializeToString() for r in resources}) == 1
        assert "target_info" not in {m.name for r in resources for s in r.scope_metrics for m in s.metrics}


def test_a_page_of_target_info_alone() -> None:
    (batch,) = scraped([b'target_info{a="b"} 1\n'])
    assert [(group.series[0].name, (group.resource or {})["a"]) for group in batch.groups] == [("up", "b")]


def test_a_target_that_goes_on_elsewhere_keeps_its_target_info() -> None:
    last = scraped([b'target_info{a="b"} 1\ng 1\n'], ends=True, superseded="up")[-1]
    assert infos(by_columns(last, new_targets())) == {
        frozenset({"a=b", "server_port=1", "server_address=h", "url_scheme=http"}): [(last.groups[0].timestamps()[0], "1.0")]
    }


def test_target_info_that_another_target_still_has_is_not_ended() -> None:
    first = scraped([b"g 1\n"], ends=True)
    moment = first[1].groups[0].timestamp_ms
    assert isinstance(moment, int)
    for group in first[0].groups:
        group.timestamp_ms = moment
    found = infos(by_columns(MetricBatch.join(first), new_targets()))
    assert list(found.values()) == [[(moment, "1.0")]]


def test_target_info_of_others_on_a_page_ends_with_their_series() -> None:
    other = b'g{job="other",instance="x:9"} 1\ntarget_info{job="other",instance="x:9",a="b"} 1\n'
    targets = new_targets()
    found = [infos(by_columns(batch, targets)) for batch in scraped([other, b"g 1\n"], honor_labels=True)]
    of_other = frozenset({"a=b", "server_port=9", "server_address=x", "url_scheme=http"})
    assert (found[0][of_other], found[1][of_other]) == ([(NOW, "1.0")], [(NOW + 1000, "stale")])


def metrics(batch: MetricBatch, drop: Any = None) -> dict[str, Any]:
    resources = ExportMetricsServiceRequest.FromString(to_otlp(batch, drop).payload).resource_metrics
    return {m.name: m for r in resources for s in r.scope_metrics for m in s.metrics if not m.name.startswith(("up", "scrape_"))}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_type_help_and_unit_follow_a_renamed_metric(openmetrics: bool) -> None:
    name = "old" if openmetrics else "old_total"
    page = (
        f"# HELP {name} Things.\n# TYPE {name} counter\nold_total 5\n"
        '# TYPE oldh_s histogram\n# HELP oldh_s Hist.\noldh_s_bucket{le="1"} 1\noldh_s_bucket{le="+Inf"} 2\noldh_s_sum 3\noldh_s_count 2\n'
        '# TYPE olds summary\nolds{quantile="0.5"} 1\nolds_sum 1\nolds_count 1\n# TYPE gone counter\ngone_total 1\n'
    ).replace("# HELP oldh_s Hist.\n", "# HELP oldh_s Hist.\n# UNIT oldh_s s\n" if openmetrics else "# HELP oldh_s Hist.\n")
    if not openmetrics:
        page = page.replace("# TYPE gone counter", "# TYPE gone_total counter")
    page += "# EOF\n" if openmetrics else ""
    rules = [
        {"source_labels": ["__name__"], "regex": "old(.*)", "target_label": "__name__", "replacement": "new$1"},
        {"source_labels": ["__name__"], "regex": "gone_total", "target_label": "__name__", "replacement": "count"},
    ]
    media = "application/openmetrics-text" if openmetrics else "text/plain"
    empty = b"# EOF\n" if openmetrics else b"x 1\n"
    first, last = scraped([page.encode(), empty], media, metric_relabel_configs=rules)
    found, ends = metrics(first), metrics(last)
    kinds = {"new_total": "sum", "newh_s": "histogram", "news": "summary", "count": "sum"}
    # the markers of the end, too, although the page no longer says what they are
    for given_metrics in (found, ends):
        assert {n: m.WhichOneof("data") for n, m in given_metrics.items() if n != "x"} == kinds
        assert (given_metrics["new_total"].description, given_metrics["newh_s"].description) == ("Things.", "Hist.")
        assert given_metrics["newh_s"].unit == ("s" if openmetrics else "")
        assert given_metrics["new_total"].sum.is_monotonic and given_metrics["count"].sum.is_monotonic
    assert ends["newh_s"].histogram.data_points[0].flags == ends["news"].summary.data_points[0].flags == 1


def test_a_part_of_a_histogram_that_is_renamed_alone_is_a_gauge() -> None:
    page = b'# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n'
    rules = [{"source_labels": ["__name__"], "regex": "h_sum", "target_label": "__name__", "replacement": "total"}]
    found = metrics(scraped([page], metric_relabel_configs=rules)[0])
    assert (found["total"].WhichOneof("data"), found["h"].histogram.data_points[0].HasField("sum")) == ("gauge", False)


def test_a_refused_page_does_not_mix_up_families() -> None:
    typed = b"# TYPE c counter\nc 1\n"
    beyond = b"c 4\nc2 5\nc3 6\n"
    batches = scraped([typed, b"c 2\nbad\n", b"c 3\n", beyond, typed, beyond, b"c 5\n"], sample_limit=2)
    kinds = [[metrics(batch)[n].WhichOneof("data") for n in metrics(batch) if n == "c"] for batch in batches]
    assert kinds == [["sum"], ["sum"], ["gauge"], ["gauge"], ["sum"], ["sum"], ["gauge"]]


INCONSISTENT_PAGES = {
    "a bucket above the count": 'h_bucket{le="1"} 3\nh_bucket{le="+Inf"} 2\nh_sum 1\nh_count 2\n',
    "the last bucket above the count": 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 3\nh_sum 1\nh_count 2\n',
    "buckets that fall": 'h_bucket{le="1"} 2\nh_bucket{le="2"} 1\nh_bucket{le="+Inf"} 3\nh_count 3\n',
    "a bucket above the count, without +Inf": 'h_bucket{le="1"} 3\nh_count 2\n',
    "a bucket above +Inf, without a count": 'h_bucket{le="1"} 3\nh_bucket{le="+Inf"} 2\n',
    "a negative bucket": 'h_bucket{le="1"} -1\nh_bucket{le="+Inf"} 2\nh_count 2\n',
    "a bucket that is no number": 'h_bucket{le="1"} NaN\nh_bucket{le="+Inf"} 2\nh_count 2\n',
    "a count that is no number": 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_count NaN\n',
    "a count without an end": 'h_bucket{le="+Inf"} +Inf\nh_count +Inf\n',
    "a negative count": "h_sum 1\nh_count -1\n",
    "a count beyond 64 bits": "h_sum 1\nh_count 1e19\n",
    "a summary's negative count": 's{quantile="0.5"} 1\ns_count -1\n',
    "a summary's count that is no number": "s_sum 1\ns_count NaN\n",
}


@pytest.mark.parametrize("what", INCONSISTENT_PAGES)
def test_a_point_that_contradicts_itself_is_left_out_and_counted(what: str) -> None:
    good = 'h_bucket{x="y",le="1"} 1\nh_bucket{x="y",le="+Inf"} 2\nh_sum{x="y"} 3\nh_count{x="y"} 2\ns_count{x="y"} 1\n'
    page = f"# TYPE h histogram\n# TYPE s summary\n{INCONSISTENT_PAGES[what]}{good}"
    (batch,) = scraped([page.encode()])
    dropped: list[tuple[str, int]] = []
    found = metrics(batch, lambda reason, points: dropped.append((reason, points)))
    assert dropped == [(INCONSISTENT, 1)]
    assert set(found) == {"h", "s"}
    for point in (*found["h"].histogram.data_points, *found["s"].summary.data_points):
        assert point.attributes[0].key == "x"
    # remote write passes samples as they are
    columns = by_columns(batch, new_targets())
    assert len([k for k in columns if ("job", "j") in k]) == len(page.splitlines()) - 2 + 6


_counts = st.one_of(st.integers(0, 5).map(float), st.sampled_from([-1.0, math.nan, math.inf, 1.5]))
_bounds = st.lists(st.sampled_from(["1", "2", "1e1", "+Inf", "NaN", "-Inf", "x"]), max_size=4, unique=True)


@given(_bounds, st.lists(_counts, min_size=4, max_size=4), st.one_of(st.none(), _counts), st.one_of(st.none(), _counts))
def test_histograms_as_otlp_add_up(bounds: list[str], buckets: list[float], count: float | None, total: float | None) -> None:
    lines = [f'h_bucket{{le="{bound}"}} {value}' for bound, value in zip(bounds, buckets, strict=False)]
    lines += [f"h_count {count}"] * (count is not None) + [f"h_sum {total}"] * (total is not None)
    (batch,) = scraped([("# TYPE h histogram\n" + "\n".join(lines) + "\n").encode().replace(b"inf", b"+Inf")])
    dropped: list[int] = []
    points = 0
    for metric in metrics(batch, lambda _, n: dropped.append(n)).values():
        for point in metric.histogram.data_points:
            points += 1
            assert sum(point.bucket_counts) == point.count
            assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
            assert sorted(set(point.explicit_bounds)) == list(point.explicit_bounds)
            assert all(math.isfinite(bound) for bound in point.explicit_bounds)
        points += len(metric.gauge.data_points)
    whole = [value for value in (count, *buckets[: len(bounds)]) if value is not None]
    assert sum(dropped) <= 1
    if dropped:
        assert any(not 0 <= value < 1 << 63 for value in whole) or sorted(whole, key=float) != whole or count != max(whole)
    assert points or dropped or not lines


def test_a_bucket_that_ends_alone_does_not_end_the_histogram() -> None:
    page = b'# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n'
    _, after = scraped([page, page.replace(b'h_bucket{le="1"} 1\n', b"")])
    found = metrics(after)
    assert [point.flags for point in found["h"].histogram.data_points] == [0]
    (marker,) = found["h_bucket"].gauge.data_points
    assert (marker.flags, marker.attributes[0].value.string_value) == (1, "1")


def test_a_series_does_not_begin_after_its_sample() -> None:
    page = b"# TYPE c counter\nc_total 1\nc_created 9e9\n# TYPE h histogram\nh_count 1\nh_created 9e9\n# EOF\n"
    found = metrics(scraped([page], "application/openmetrics-text")[0])
    assert found["c_total"].sum.data_points[0].start_time_unix_nano == 0
    assert found["h"].histogram.data_points[0].start_time_unix_nano == 0


def reported(batch: MetricBatch) -> dict[str, float]:
    (report,) = [group for group in batch.groups if group.series and group.series[0].name == "up"]
    return {series.name: value for series, value in zip(report.series, report.values, strict=True)}


@pytest.mark.parametrize(
    "page,openmetrics,total,kept",
    [
        (b"a 1\nb 2\nc x\nd 4\n", False, 2, 1),
        (b"a 1\nb 2\nc 3\nd 4 5 6\n", False, 3, 2),
        (b"bad", False, 0, 0),
        (b"a 1\nc 2\n", True, 2, 2),  # no # EOF
        (b'a 1\nc{l="too long"} 1\nd 4\n', False, 2, 1),
    ],
)
def test_what_could_be_read_of_a_page_is_counted(page: bytes, openmetrics: bool, total: int, kept: int) -> None:
    """`scrape_samples_scraped` and `scrape_samples_post_metric_relabeling` of a failed scrape are those up to the error, as in Prometheus."""
    (batch,) = scraped(
        [page],
        "application/openmetrics-text" if openmetrics else "text/plain",
        metric_relabel_configs=[{"source_labels": ["__name__"], "regex": "b", "action": "drop"}],
        label_value_length_limit=5,
    )
    found = reported(batch)
    values = [found[name] for name in ("up", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling")]
    assert values == [0.0, float(total), float(kept)]


@pytest.mark.parametrize("stamp", ["1e20", "-1e20", "9223372036854776", "1e308", "-9223372036854775.808"])
def test_an_openmetrics_time_beyond_64_bits_costs_its_sample_alone(stamp: str) -> None:
    page = f"a 1 {stamp}\nb 2\nc_total 3 # {{}} 1 {stamp}\n# EOF\n".encode()
    (batch,) = scraped([page], "application/openmetrics-text")
    assert reported(batch)["up"] == 1 and reported(batch)["scrape_samples_scraped"] == 3
    assert [series.name for series in batch.groups[0].series] == ["b", "c_total"]
    assert not batch.groups[0].exemplars


@pytest.mark.parametrize("stamp", ["NaN", "+Inf", "-Inf", "1e999"])
def test_an_openmetrics_time_that_is_no_number_fails_the_page(stamp: str) -> None:
    (batch,) = scraped([f"a 1 {stamp}\n# EOF\n".encode()], "application/openmetrics-text")
    assert reported(batch)["up"] == 0


def test_a_large_openmetrics_time_is_exact() -> None:
    (batch,) = scraped([b"a 1 -5.5\nb 1 9007199254.740\n# EOF\n"], "application/openmetrics-text")
    assert dict(zip([s.name for s in batch.groups[0].series], batch.groups[0].timestamps(), strict=True)) == {"a": -5500}
