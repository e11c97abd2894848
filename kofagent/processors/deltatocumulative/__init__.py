"""`deltatocumulative`: adds up deltas of sums and histograms, each stream by itself.

The totals are held for `max_streams` streams, within 64 MiB, and over a reload. Points that are not passed on are counted as
dropped: `stream limit`, `older start` (of a series before the present one) and `out of order`. A batch that the next component
refuses for now is made into the same totals when it comes again. A malformed payload is refused and counted as dropped
(`malformed`). Difference: a point keeps its own exemplars and flags. Upstream: processor/deltatocumulativeprocessor.
"""

from kofagent.processors.deltatocumulative.processor import DeltaToCumulativeProcessor

COMPONENT = DeltaToCumulativeProcessor
