"""The questions asked of a server. Each column has the type that its reader expects, so that nothing is looked up for it.

Sizes are asked for where that can neither be refused nor wait: `pg_database_size` fails for a database that the user may not
connect to, and `pg_relation_size` waits for an exclusive lock.
"""

from __future__ import annotations

PAGE = 500
"""Tables or indexes of one query, which are one batch."""

VERSION = "SELECT current_setting('server_version_num')::int"
DATABASES = "SELECT datname::text FROM pg_catalog.pg_database WHERE NOT datistemplate ORDER BY datname"
MAX_CONNECTIONS = "SELECT current_setting('max_connections')::bigint"

BACKENDS = """
SELECT datname::text AS name, count(*) AS backends FROM pg_catalog.pg_stat_activity
WHERE datname = ANY($1::text[]) GROUP BY datname"""

SIZES = """
SELECT datname::text AS name, CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
  THEN pg_catalog.pg_database_size(oid) END AS size
FROM pg_catalog.pg_database WHERE datname = ANY($1::text[])"""

DATABASE_STATISTICS = """
SELECT datname::text AS name, xact_commit, xact_rollback, deadlocks, temp_files, temp_bytes, tup_updated, tup_returned,
  tup_fetched, tup_inserted, tup_deleted, blks_hit, blks_read
FROM pg_catalog.pg_stat_database WHERE datname = ANY($1::text[])"""

LOCKS = """
SELECT c.relname::text AS relation, l.mode, l.locktype, count(*) AS locks
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON l.relation = c.oid
WHERE l.database IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
GROUP BY 1, 2, 3 LIMIT 10000"""

BGWRITER = """
SELECT checkpoints_req, checkpoints_timed, checkpoint_write_time, checkpoint_sync_time, buffers_clean, buffers_backend,
  buffers_backend_fsync, buffers_checkpoint, buffers_alloc, maxwritten_clean
FROM pg_catalog.pg_stat_bgwriter"""

BGWRITER_17 = """
SELECT c.num_requested AS checkpoints_req, c.num_timed AS checkpoints_timed, c.write_time AS checkpoint_write_time,
  c.sync_time AS checkpoint_sync_time, b.buffers_clean, NULL::bigint AS buffers_backend, NULL::bigint AS buffers_backend_fsync,
  c.buffers_written AS buffers_checkpoint, b.buffers_alloc, b.maxwritten_clean
FROM pg_catalog.pg_stat_bgwriter b, pg_catalog.pg_stat_checkpointer c"""
"""From version 17 on backends are not told apart."""

REPLICATION = """
SELECT coalesce(host(client_addr), 'unix') AS client,
  pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
    ELSE pg_catalog.pg_current_wal_lsn() END, replay_lsn)::bigint AS pending,
  extract(epoch FROM write_lag)::float8 AS write, extract(epoch FROM flush_lag)::float8 AS flush,
  extract(epoch FROM replay_lag)::float8 AS replay
FROM pg_catalog.pg_stat_replication"""

WAL_AGE = "SELECT extract(epoch FROM now() - last_archived_time)::float8 FROM pg_catalog.pg_stat_archiver"
"""NULL when nothing was ever archived."""

TABLES = """
WITH locked AS (SELECT relation FROM pg_catalog.pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
SELECT s.relid, s.schemaname::text AS schema, s.relname::text AS name, s.n_live_tup, s.n_dead_tup, s.n_tup_ins, s.n_tup_upd,
  s.n_tup_del, s.n_tup_hot_upd, s.seq_scan, s.vacuum_count,
  CASE WHEN NOT EXISTS (SELECT FROM locked WHERE relation = s.relid) THEN pg_catalog.pg_relation_size(s.relid) END AS size,
  coalesce(io.heap_blks_read, 0) AS heap_read, coalesce(io.heap_blks_hit, 0) AS heap_hit,
  coalesce(io.idx_blks_read, 0) AS idx_read, coalesce(io.idx_blks_hit, 0) AS idx_hit,
  coalesce(io.toast_blks_read, 0) AS toast_read, coalesce(io.toast_blks_hit, 0) AS toast_hit,
  coalesce(io.tidx_blks_read, 0) AS tidx_read, coalesce(io.tidx_blks_hit, 0) AS tidx_hit
FROM pg_catalog.pg_stat_user_tables s LEFT JOIN pg_catalog.pg_statio_user_tables io USING (relid)
WHERE s.relid > $1::oid ORDER BY s.relid LIMIT $2::bigint"""

INDEXES = """
WITH locked AS (SELECT relation FROM pg_catalog.pg_locks WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()))
SELECT s.indexrelid AS relid, s.relname::text AS table, s.indexrelname::text AS name, s.idx_scan,
  CASE WHEN NOT EXISTS (SELECT FROM locked WHERE relation = s.indexrelid) THEN pg_catalog.pg_relation_size(s.indexrelid) END AS size
FROM pg_catalog.pg_stat_user_indexes s
WHERE s.indexrelid > $1::oid ORDER BY s.indexrelid LIMIT $2::bigint"""

FUNCTIONS = """
SELECT s.funcid AS relid, s.calls, CASE WHEN p.proargnames IS NOT NULL AND EXISTS (
    SELECT FROM pg_catalog.pg_proc o WHERE o.proname = p.proname AND o.oid <> p.oid
      AND pg_catalog.pg_stat_get_function_calls(o.oid) IS NOT NULL)
  THEN p.proname || '_' || array_to_string(p.proargnames, '_') ELSE p.proname::text END AS name
FROM pg_catalog.pg_stat_user_functions s JOIN pg_catalog.pg_proc p ON p.oid = s.funcid
WHERE s.funcid > $1::oid ORDER BY s.funcid LIMIT $2::bigint"""
"""Functions of the same name are told apart by the names of their arguments."""
