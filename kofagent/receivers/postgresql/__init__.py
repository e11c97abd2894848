"""`postgresql`: sends what a PostgreSQL server counts about itself, its databases, tables and indexes.

Options, metrics and resource attributes are upstream's (receiver/postgresqlreceiver 0.149), without query samples and top queries.
The user needs the right to connect to each database, and `pg_monitor` for what is reserved to it. A database that refuses costs its
own metrics only: the status names it, and what could not be read is counted (`otelcol_scraper_errored_metric_points`, one for each
query). `postgresql.wal.lag` and the more precise `postgresql.wal.delay` are sent as `metrics` says. A table that is locked
exclusively is sent without its size, since asking for that would wait for the lock. Needs the extra `postgresql`.

Use it with servers that are trusted: tables and indexes are read in pages, but the library takes messages of any length from what
only claims to be a server. So annotations of pods start it only where `discovery.allow_receivers` of `receiver_creator` names it.
"""

from kofagent.receivers.postgresql.receiver import PostgreSql

COMPONENT = PostgreSql
