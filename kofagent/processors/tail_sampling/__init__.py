"""`tail_sampling`: holds the spans of a trace until it is complete, then decides by policies whether all of them pass.

Spans are held in memory for `decision_wait`, within `num_traces` and the agent's budget of data in memory, and are lost with the
process; what finds no room is refused for now. So `consume` returns before the next component has the data, and what that one
refuses for now is offered again for a minute. Spans that come after a decision follow it. The stop, and a reload, decide on what
waits; decisions are kept over a reload. Traces that are not sampled are counted as filtered, as `not sampled`, `dropped` (by a
policy) or `maximum_trace_size_bytes`; traces that had to make room as dropped (`evicted`).
Upstream: processor/tailsamplingprocessor.
"""

from kofagent.processors.tail_sampling.processor import TailSamplingProcessor

COMPONENT = TailSamplingProcessor
