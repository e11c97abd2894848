"""`transform`: changes records, their resources and scopes by OTTL statements.

Statements stand in groups with one context each, written or found by their paths; a group runs all its statements on one item and
then the next, and groups run one after the other over the whole payload. `error_mode` says what happens when a statement cannot be
run: it is skipped and logged (`ignore`), skipped (`silent`), or the payload is dropped, counted as `condition error` (`propagate`).
Upstream: processor/transformprocessor, pkg/ottl.
"""

from kofagent.processors.transform.processor import TransformProcessor

COMPONENT = TransformProcessor
