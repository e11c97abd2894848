"""`metricstransform`: renames, copies, combines, scales and aggregates metrics, and changes their labels.

Transforms run one after the other, each on the metrics of one scope whose names match; nothing is aggregated over batches. Metrics
that no transform matches keep their bytes. What cannot be done to a metric (aggregating a summary, combining what differs) is left
out and logged once. Points that a transform takes away or merges into others are counted as filtered, by its place. Differences:
`combine` and `group` leave points without the labels where they are, upstream drops them; aggregation without a type sums.
A malformed payload is refused and counted as dropped (`malformed`). Upstream: processor/metricstransformprocessor.
"""

from kofagent.processors.metricstransform.processor import MetricsTransformProcessor

COMPONENT = MetricsTransformProcessor
