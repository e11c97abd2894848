"""`file_storage`: keeps durable state of components (file offsets, queues) in a directory. Interface: `component/checkpoints`.

Upstream: extension/storage/filestorage of the collector's contrib; the same options and file names (`receiver_filelog_`), the
files are SQLite databases in WAL mode instead of bbolt ones, one for each component. A call that returned survives kill -9;
with `fsync` a power failure as well. A file is used by one process at a time: `timeout` is how long to wait for it.

A damaged file fails the start of its component; with `recreate` it is moved aside (`<name>.corrupt-<time>`), which is logged
and counted in `kofagent_storage_recreated_total`, and replaced by an empty one. A full disk raises OSError in the component.
SQLite compacts in place: `compaction.directory`, `max_transaction_size` and `cleanup_on_start` are accepted without effect.
"""

from kofagent.extensions.file_storage.extension import FileStorage

COMPONENT = FileStorage
