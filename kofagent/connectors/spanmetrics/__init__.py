"""`spanmetrics`: counts spans and their durations by service, name, kind, status and further dimensions.

Metrics go to the pipelines that start with the connector, every `metrics_flush_interval` and at the stop; the sums of a cumulative
series begin with 0. What is counted is kept over a reload with the same options. Series take 64 MiB at most: what has no room, or
is beyond `aggregation_cardinality_limit`, is counted in a series with `otel.metric.overflow`. Deltas that the pipelines refuse for
now are offered again with the next ones, sixteen batches at most. Spans without `service.name` are counted as filtered; spans that
come again are counted again. Upstream: connector/spanmetricsconnector.
"""

from kofagent.connectors.spanmetrics.connector import SpanMetricsConnector

COMPONENT = SpanMetricsConnector
