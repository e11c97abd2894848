"""`routing`: sends data to pipelines by conditions (OTTL) on request, resource, record or data point.

Upstream: connector/routingconnector of the collector's contrib. The table is read from top to bottom; what a route takes with
`action: move` is gone for the routes below it, with `copy` it stays. What no route took goes to `default_pipelines`, or is
left out, counted in `kofagent_filtered_items_total` with rule `unmatched`.

A condition that does not fit the data counts as not matching (`error_mode: ignore`, with a log line now and then, or
`silent`); with `propagate` the batch is dropped, counted as `condition error`. Pipelines must be of the batch's signal; routes
that speak of another signal's records are skipped. The editors `delete_key` and `delete_matching_keys` of upstream's
statements are not supported: use the resource or attributes processor behind the route.
"""

from kofagent.connectors.routing.connector import RoutingConnector

COMPONENT = RoutingConnector
