"""`cumulativetodelta`: makes cumulative monotonic sums and histograms deltas, by the values that each stream had before.

The last values are held for as many streams as fit into 64 MiB, and over a reload. A first value is passed on, or kept back, as
`initial_value` says. Points that are not passed on are counted: filtered as `initial_value` or `no recorded value`, dropped as
`counter reset`, `changed buckets` or `stream limit`. A batch that the next component refuses for now is made into the same deltas
when it comes again. A malformed payload is refused and counted as dropped (`malformed`). Difference: after a reset a histogram goes
on from its new values, as sums do. Upstream: processor/cumulativetodeltaprocessor.
"""

from kofagent.processors.cumulativetodelta.processor import CumulativeToDeltaProcessor

COMPONENT = CumulativeToDeltaProcessor
