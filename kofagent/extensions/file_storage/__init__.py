"""`file_storage`: keeps durable state of components (file offsets, queues) in a directory.

Upstream: extension/storage/filestorage of the collector's contrib; the same options and file names (`receiver_filelog_`), the
files are SQLite databases in WAL mode instead of bbolt ones, one for each component. A call that returned survives kill -9;
with `fsync` a power failure as well. A file is used by one process at a time: `timeout` is how long to wait for it.

A queue (`sending_queue.storage`) is not in a database but in a folder, `<name>.queue`, of files that are only appended to,
each record with a checksum. A queue that is damaged costs what is damaged, which is counted as `queue on disk damaged`, and
never fails a start; a full volume never keeps it from being sent and emptied. New data is refused, or with
`storage_when_full: drop_oldest` takes the place of old, when the volume has less than 64 MiB free, or a twentieth of it if
that is less: checkpoints need room as well. A queue that version 0.1 left in a database is moved to such a folder at the
start. `fsync`: without it a record survives a crash of the process.

A damaged database fails the start of its component; with `recreate` it is moved aside (`<name>.corrupt-<time>`), which is logged
and counted in `kofagent_storage_recreated_total`, and replaced by an empty one. A full disk raises OSError in the component.
SQLite compacts in place: `compaction.directory`, `max_transaction_size` and `cleanup_on_start` are accepted without effect.
"""

from kofagent.extensions.file_storage.extension import FileStorage

COMPONENT = FileStorage
