"""`routing`: sends data to pipelines by OTTL conditions on request, resource, record or data point.

Upstream: connector/routingconnector of the collector's contrib. The table is read from top to bottom: what a route takes with
`action: move` is not seen by the routes below it, with `copy` it is. What no route takes goes to `default_pipelines`, or is
left out and counted in `kofagent_filtered_items_total` with the rule `unmatched`. A condition that cannot be evaluated counts
as not matching (`error_mode: ignore`, logged from time to time, or `silent`); with `propagate` the batch is dropped, counted as
`condition error`.

Only pipelines of the batch's own signal get it; routes about records of another signal are skipped. The editors `delete_key`
and `delete_matching_keys` of upstream's statements are not supported: use the resource or attributes processor after the route.
"""

from kofagent.connectors.routing.connector import RoutingConnector

COMPONENT = RoutingConnector
