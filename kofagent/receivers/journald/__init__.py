"""`journald`: reads the journal of systemd from its files, without journalctl.

What it promises: every entry that is in the files when they are looked at (four times a second) and that the options want is
delivered, none twice without a restart, those of one journald in the order of their numbers, those of several by the clock. Rotated
files are read to their ends, also after they were renamed or deleted. With `storage` the position of each journald moves only when
a component downstream owns the entries, and a restart continues exactly there (after a crash what was under way is sent again);
without it a restart begins as `start_at` says. Files of all versions are read: xz, lz4 and zstd, keyed hashes, compact ones.

How it fails: an entry that cannot be read (a file that is damaged) is a counted drop, `damaged journal`, and the next one is read;
what journald may be just writing is tried again for two seconds first. A file that cannot be read at all is counted
(`kofagent_journald_unreadable_files_total`), logged once and tried again. A value of an entry that cannot be read is left out,
which the log says. A batch the pipeline refuses is offered again until it is taken, unless `retry_on_failure` says otherwise: while
it waits nothing is read, the journal is the buffer. What journald removes before it was read is lost: the log says how many entries
at most.

Options, defaults and the shape of entries are those of opentelemetry-collector-contrib's journaldreceiver: the body is the map
that `journalctl -o json` shows without `__REALTIME_TIMESTAMP`, which is the time of the record. Different on purpose:
`retry_on_failure` is on; `dmesg` goes on after a restart with what the last boot said before it ended; `grep` is RE2; priorities,
units and fields that cannot be are refused at the start; `__SEQNUM` and `__SEQNUM_ID`, which journalctl shows since version 254,
are in `__CURSOR` only.

In a pod `/var/log/journal` and `/run/log/journal` have to be mounted, read-only, and the user or one of its groups has to be able
to read them.
"""

from kofagent.receivers.journald.receiver import JournaldReceiver

COMPONENT = JournaldReceiver
