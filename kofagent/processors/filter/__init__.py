"""`filter`: leaves out metrics, data points, log records, spans and span events, selected by match lists or OTTL conditions.

What is left out is counted per rule (`kofagent_filtered_items_total{rule}`); the rest keeps its bytes. Resources and scopes
that become empty are removed. `error_mode` says what happens when a condition fails; a malformed payload is refused and counted
as dropped (`malformed`). Upstream: processor/filterprocessor, pkg/ottl.
"""

from kofagent.processors.filter.processor import FilterProcessor

COMPONENT = FilterProcessor
