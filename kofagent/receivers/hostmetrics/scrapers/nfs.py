# ruff: noqa: SIM905 -- names in rows, in the order of the kernel
"""nfs: the kernel's NFS client and server, from /proc/net/rpc/nfs and nfsd (Linux).

A file that is not there means that the kernel has no such client or server, which is no error. Names of procedures and
operations: RFC 1813, RFC 7530, RFC 8881, RFC 7862, RFC 8276, in the kernel's order.
"""

from __future__ import annotations

from kofagent.receivers.hostmetrics.config import NfsOptions
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots
from kofagent.receivers.hostmetrics.scrapers import Round, Scrape

V3 = (
    "NULL GETATTR SETATTR LOOKUP ACCESS READLINK READ WRITE CREATE MKDIR SYMLINK MKNOD REMOVE RMDIR RENAME LINK "
    "READDIR READDIRPLUS FSSTAT FSINFO PATHCONF COMMIT"
).split()
CLIENT_V4 = (
    "NULL READ WRITE COMMIT OPEN OPEN_CONFIRM OPEN_NOATTR OPEN_DOWNGRADE CLOSE SETATTR FSINFO RENEW SETCLIENTID "
    "SETCLIENTID_CONFIRM LOCK LOCKT LOCKU ACCESS GETATTR LOOKUP LOOKUP_ROOT REMOVE RENAME LINK SYMLINK CREATE "
    "PATHCONF STATFS READLINK READDIR SERVER_CAPS DELEGRETURN GETACL SETACL FS_LOCATIONS RELEASE_LOCKOWNER SECINFO "
    "FSID_PRESENT EXCHANGE_ID CREATE_SESSION DESTROY_SESSION SEQUENCE GET_LEASE_TIME RECLAIM_COMPLETE GETDEVICEINFO "
    "LAYOUTGET LAYOUTCOMMIT LAYOUTRETURN SECINFO_NO_NAME TEST_STATEID FREE_STATEID GETDEVICELIST BIND_CONN_TO_SESSION "
    "DESTROY_CLIENTID SEEK ALLOCATE DEALLOCATE LAYOUTSTATS CLONE COPY OFFLOAD_CANCEL COPY_NOTIFY LOOKUPP LAYOUTERROR "
    "GETXATTR SETXATTR LISTXATTRS REMOVEXATTR READ_PLUS"
).split()
SERVER_V4 = ["NULL", "COMPOUND"]
SERVER_V4_OPERATIONS = (
    "- - - ACCESS CLOSE COMMIT CREATE DELEGPURGE DELEGRETURN GETATTR GETFH LINK LOCK LOCKT LOCKU LOOKUP LOOKUPP "
    "NVERIFY OPEN OPENATTR OPEN_CONFIRM OPEN_DOWNGRADE PUTFH PUTPUBFH PUTROOTFH READ READDIR READLINK REMOVE RENAME "
    "RENEW RESTOREFH SAVEFH SECINFO SETATTR SETCLIENTID SETCLIENTID_CONFIRM VERIFY WRITE RELEASE_LOCKOWNER "
    "BACKCHANNEL_CTL BIND_CONN_TO_SESSION EXCHANGE_ID CREATE_SESSION DESTROY_SESSION FREE_STATEID GET_DIR_DELEGATION "
    "GETDEVICEINFO GETDEVICELIST LAYOUTCOMMIT LAYOUTGET LAYOUTRETURN SECINFO_NO_NAME SEQUENCE SET_SSV TEST_STATEID "
    "WANT_DELEGATION DESTROY_CLIENTID RECLAIM_COMPLETE ALLOCATE COPY COPY_NOTIFY DEALLOCATE IO_ADVISE LAYOUTERROR "
    "LAYOUTSTATS OFFLOAD_CANCEL OFFLOAD_STATUS READ_PLUS SEEK WRITE_SAME CLONE GETXATTR SETXATTR LISTXATTRS "
    "REMOVEXATTR"
).split()
"""`-` stands for numbers that no operation has."""


def scraper(options: NfsOptions, roots: Roots) -> Scrape:
    """Client and server are read independently."""

    def scrape(out: Recorder, round: Round) -> None:
        for name, record, points in (("nfs", _client, 97), ("nfsd", _server, 115)):
            try:
                lines = _lines(roots.read_proc(f"net/rpc/{name}"))
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                out.failed(points, f"cannot read /proc/net/rpc/{name}", str(error))
                continue
            try:
                record(out, lines)
            except IndexError:
                out.failed(points, f"/proc/net/rpc/{name} has a line that is too short")

    return scrape


def _lines(text: str) -> dict[str, list[int]]:
    out = {}
    for line in text.splitlines():
        kind, *values = line.split()
        # th: the number of threads, then a histogram that is written with decimal points
        out[kind] = [int(v) for v in (values[:1] if kind == "th" else values)] if kind in _KNOWN else []
    return out


_KNOWN = {"net", "rpc", "proc3", "proc4", "rc", "fh", "io", "th", "proc4ops"}


def _calls(out: Recorder, metric: str, version: int, names: list[str], values: list[int]) -> None:
    """`values` is the number of calls known to the kernel, then a count for each; a newer kernel knows more than we do."""
    for name, count in zip(names, values[1:], strict=False):
        if name != "-":
            out.add(metric, count, version, name)


def _net(out: Recorder, side: str, values: list[int]) -> None:
    out.add(f"nfs.{side}.net.count", values[1], "udp")
    out.add(f"nfs.{side}.net.count", values[2], "tcp")
    out.add(f"nfs.{side}.net.tcp.connection.accepted", values[3])


def _client(out: Recorder, lines: dict[str, list[int]]) -> None:
    if "net" in lines:
        _net(out, "client", lines["net"])
    if "rpc" in lines:
        for name, value in zip(("count", "retransmit.count", "authrefresh.count"), lines["rpc"], strict=False):
            out.add(f"nfs.client.rpc.{name}", value)
    _calls(out, "nfs.client.procedure.count", 3, V3, lines.get("proc3", []))
    _calls(out, "nfs.client.operation.count", 4, CLIENT_V4, lines.get("proc4", []))


def _server(out: Recorder, lines: dict[str, list[int]]) -> None:
    for status, value in zip(("hit", "miss", "nocache"), lines.get("rc", ()), strict=False):
        out.add("nfs.server.repcache.requests", value, status)
    if "fh" in lines:
        out.add("nfs.server.fh.stale.count", lines["fh"][0])
    for direction, value in zip(("receive", "transmit"), lines.get("io", ()), strict=False):
        out.add("nfs.server.io", value, direction)
    if "th" in lines:
        out.add("nfs.server.thread.count", lines["th"][0])
    if "net" in lines:
        _net(out, "server", lines["net"])
    # rpc: all, then those refused: all, for their format, for their credentials, for the client
    for cause, value in zip(("format", "auth", "client"), lines.get("rpc", [])[2:5], strict=False):
        out.add("nfs.server.rpc.count", value, cause)
    _calls(out, "nfs.server.procedure.count", 3, V3, lines.get("proc3", []))
    _calls(out, "nfs.server.procedure.count", 4, SERVER_V4, lines.get("proc4", []))
    _calls(out, "nfs.server.operation.count", 4, SERVER_V4_OPERATIONS, lines.get("proc4ops", []))
