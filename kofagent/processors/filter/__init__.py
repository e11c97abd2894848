"""filter: leaves out metrics, data points, log records, spans and span events by match lists or OTTL conditions.

What is left out is counted by rule (`kofagent_filtered_items_total{rule}`), the rest keeps its bytes; resources and scopes that
become empty go too. A condition that fails is handled as `error_mode` says; a malformed payload is refused and counted as
dropped (`malformed`). Upstream: processor/filterprocessor, pkg/ottl.
"""

from kofagent.processors.filter.processor import FilterProcessor

COMPONENT = FilterProcessor
