"""`filelog`: tails files, rotated in any of the usual ways.

What it promises: no line is lost that stayed in a file for one `poll_interval`, none is sent twice without a restart, and the order
within a file is kept. A file is read to its end also after it was renamed or deleted. The checkpoint of a file moves only
when a component downstream owns its records; with `storage` a restart continues exactly there (after a crash at most what was
under way is sent again), without it a restart begins as `start_at` says.

A file that was renamed, compressed with gzip or copied away from its path between two polls is found again next to that path, by
inode or fingerprint, and read on where it was left, under its old name, before the path's present file; rotated files that came
and went unseen are read whole. What is gone is counted (`kofagent_filelog_lost_files_total`, `kofagent_filelog_lost_bytes_total`,
by reason) and named in the log.

How it fails: a file that cannot be read is counted (`kofagent_filelog_unreadable_files_total`), logged once and tried again. A
batch the pipeline refuses is offered again as `retry_on_failure` says (KOF's pipelines: for ever), else dropped and counted with
its reason. While the pipeline takes nothing, reading stops: the files are the buffer.

Options, defaults and attributes are those of opentelemetry-collector-contrib's filelogreceiver and pkg/stanza/fileconsumer.
Different on purpose: a file truncated in place is read from its beginning even when it starts as before (`on_truncate` not set);
a file that starts like another one is read as soon as it differs from it; one that is deleted and written anew is read whole, even
if its bytes are the same; an entry whose parts are in two files of a path is joined; `delete_after_read` deletes only what was
delivered.
"""

from kofagent.receivers.filelog.receiver import FileLogReceiver

COMPONENT = FileLogReceiver
