"""`probabilistic_sampler`: lets a share of spans or log records pass, all of a trace or none.

By a hash of the trace ID or of an attribute (`hash_seed`), or by the randomness that W3C trace IDs have (`proportional`,
`equalizing`), with what is said of it in `tracestate` or the attributes `sampling.threshold` and `sampling.randomness`. A priority
on the item has the last word. What is not sampled is counted as filtered, as `not sampled`, or `fail_closed` where sampling was not
possible. A malformed payload is refused and counted as dropped (`malformed`). Upstream: processor/probabilisticsamplerprocessor.
"""

from kofagent.processors.probabilistic_sampler.processor import ProbabilisticSamplerProcessor

COMPONENT = ProbabilisticSamplerProcessor
