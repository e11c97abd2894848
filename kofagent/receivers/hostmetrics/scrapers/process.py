"""process: CPU, memory and I/O of every process, one resource each (proc(5); psutil where there is no /proc).

A process that ends while it is read is left out silently. What may not be read (another user's I/O
counters) is counted and logged once, unless muted, and the rest of that process is sent.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from kofagent.component.metric_options import selection
from kofagent.receivers.hostmetrics.catalog import RESOURCE_ATTRIBUTES
from kofagent.receivers.hostmetrics.config import ProcessOptions, wanted
from kofagent.receivers.hostmetrics.recorder import Recorder
from kofagent.receivers.hostmetrics.roots import Roots, read_text
from kofagent.receivers.hostmetrics.scrapers import LINUX, Round, Scrape
from kofagent.receivers.hostmetrics.scrapers.cpu import logical_count
from kofagent.receivers.hostmetrics.scrapers.memory import meminfo
from kofagent.receivers.hostmetrics.scrapers.processes import pids
from kofagent.transform.otlp_metrics import resource_bytes

_COMM_MAX = 15
"""The kernel keeps this many bytes of a name."""


class Stat(NamedTuple):
    """What /proc/PID/stat says: times in seconds, `start_ns` in Unix nanoseconds."""

    comm: str
    parent: int
    minor_faults: int
    major_faults: int
    user: float
    system: float
    wait: float
    threads: int
    start_ns: int


def parse_stat(text: str, boot_ns: int, tick: int) -> Stat:
    """One /proc/PID/stat line; the name in brackets may hold anything. ValueError where it is cut off."""
    opening, closing = text.find("("), text.rfind(")")
    columns = text[closing + 2 :].split()
    if opening < 0 or len(columns) < 22:
        raise ValueError("stat has too few columns")
    wait = int(columns[39]) / tick if len(columns) > 39 else 0.0
    return Stat(
        text[opening + 1 : closing],
        int(columns[1]),
        int(columns[7]),
        int(columns[9]),
        int(columns[11]) / tick,
        int(columns[12]) / tick,
        wait,
        int(columns[17]),
        boot_ns + int(columns[19]) * (1_000_000_000 // tick),
    )


class _Users:
    """Names of user ids from the host's /etc/passwd, read again when the file changes."""

    def __init__(self, roots: Roots) -> None:
        self._path = f"{roots.etc}/passwd"
        self._stamp: tuple[int, int] | None = None
        self._names: dict[int, str] = {}
        self._system = roots.root == ""

    def refresh(self) -> None:
        """Reads the file if it is another one than the last time."""
        try:
            stat = os.stat(self._path)
            if (stat.st_mtime_ns, stat.st_ino) == self._stamp:
                return
            self._names = {}
            for line in read_text(self._path).splitlines():
                columns = line.split(":")
                if len(columns) > 2 and columns[2].isdigit():
                    self._names.setdefault(int(columns[2]), columns[0])
            self._stamp = (stat.st_mtime_ns, stat.st_ino)
        except OSError:
            self._names, self._stamp = {}, None

    def name(self, uid: int) -> str | None:
        """The name of a user; None when the machine does not know it."""
        name = self._names.get(uid)
        if name is None and self._system:
            import pwd  # directories such as LDAP know users that the file does not have

            try:
                name = self._names[uid] = pwd.getpwuid(uid).pw_name
            except (KeyError, OSError):
                return None
        return name


def scraper(options: ProcessOptions, roots: Roots) -> Scrape:
    """Linux reads /proc; other systems ask psutil."""
    if not LINUX:
        from kofagent.receivers.hostmetrics.scrapers import process_psutil

        return process_psutil.scraper(options)
    return _Linux(options, roots).scrape


_NAME_FILES = ("stat", "cmdline")
"""Files in a process' directory that have its name."""
_Identity = tuple[bytes | None, str]
"""Resource bytes (None: this process is not wanted) and the name."""


class _Linux:
    def __init__(self, options: ProcessOptions, roots: Roots) -> None:
        self._options, self._roots = options, roots
        self._keep = wanted(options.include, options.exclude)
        self._attributes, self._passes = selection(RESOURCE_ATTRIBUTES, options.resource_attributes)
        self._users = _Users(roots)
        self._tick, self._page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        self._identities: dict[tuple[object, ...], _Identity] = {}
        self._cpu_before: dict[tuple[str, int], tuple[int, Stat]] = {}

    def scrape(self, out: Recorder, round: Round) -> None:
        self._users.refresh()
        cpus = logical_count(self._roots) if out.on("process.cpu.utilization") else 1
        total = meminfo(self._roots).get("MemTotal", 0) if out.on("process.memory.utilization") else 0
        cpu_now: dict[tuple[str, int], tuple[int, Stat]] = {}
        known, self._identities = self._identities, {}  # only those of living processes are carried over
        all_pids = pids(self._roots)
        for done, pid in enumerate(all_pids):
            if round.deadline is not None and time.monotonic() > round.deadline:
                out.failed(len(all_pids) - done, "the collection timed out before all processes were read")
                break
            path = f"{self._roots.proc}/{pid}"
            try:
                stat = parse_stat(read_text(path + "/stat"), round.boot_ns, self._tick)
                now = time.time_ns()
                if self._options.scrape_process_delay and now - stat.start_ns < self._options.scrape_process_delay * 1e9:
                    continue
                resource, name = self._identity(out, path, int(pid), stat, known)
                if resource is None:
                    continue
                key = (pid, stat.start_ns)
                cpu_now[key] = (now, stat)
                before = self._cpu_before.get(key)
                self._cpu(out, stat, before, (now - before[0]) * cpus if before else 0)
                self._memory(out, path, total)
                self._rest(out, path, name, stat, now)
            except (FileNotFoundError, ProcessLookupError):
                out.forget()  # it has ended
            except (OSError, ValueError, LookupError) as error:
                out.forget()
                unnamed = isinstance(error, PermissionError) and os.path.basename(str(error.filename)) in _NAME_FILES
                if not (unnamed and self._options.mute_process_name_error):
                    self._failed(out, 1, "cannot read a process", f"pid {pid}: {error}")
            else:
                out.end_resource(resource, stat.start_ns, round.time_ns)
        self._cpu_before = cpu_now

    def _failed(self, out: Recorder, points: int, problem: str, detail: str) -> None:
        if not self._options.mute_process_all_errors:
            out.failed(points, problem, detail)

    def _identity(self, out: Recorder, path: str, pid: int, stat: Stat, before: dict[tuple[object, ...], _Identity]) -> _Identity:
        # hot: host_process, 0.15 ms a process, most of it in the kernel; a program that execs or changes its title has another
        # command line, so the rest of the identity (status, exe, passwd) is only read when that changes
        with open(path + "/cmdline", "rb", buffering=0) as file:
            cmdline = file.read() or b""
        owner = os.stat(path).st_uid
        key = (pid, stat.start_ns, stat.parent, stat.comm, owner, cmdline)
        identity = before.get(key)
        if identity is None or {"process.cgroup", "process.linux.cgroup"} & self._attributes:
            identity = self._read_identity(out, path, pid, stat, cmdline)
        self._identities[key] = identity
        return identity

    def _read_identity(self, out: Recorder, path: str, pid: int, stat: Stat, cmdline: bytes) -> _Identity:
        options = self._options
        arguments = cmdline.rstrip(b"\0").decode("utf-8", "surrogateescape").split("\0") if cmdline else []
        name = stat.comm
        if len(name.encode("utf-8", "surrogateescape")) >= _COMM_MAX and arguments:
            whole = os.path.basename(arguments[0])
            name = whole if whole.startswith(name) else name
        if self._keep is not None and not self._keep(name):
            return None, name
        values: dict[str, str | int] = {"process.pid": pid, "process.parent_pid": stat.parent, "process.executable.name": name}
        values["process.executable.path"] = self._executable(out, path, name, bool(arguments))
        if {"process.cgroup", "process.linux.cgroup"} & self._attributes:
            try:
                values["process.cgroup"] = values["process.linux.cgroup"] = read_text(path + "/cgroup").removesuffix("\n")
            except PermissionError as error:
                if not options.mute_process_cgroup_error:
                    self._failed(out, 0, "cannot read the cgroup of a process", f"{name}: {error.strerror}")
        values["process.command"] = arguments[0] if arguments else ""
        values["process.command_line"] = " ".join(arguments)
        uid = _real_uid(read_text(path + "/status"))
        owner = self._users.name(uid)
        if owner is not None:
            values["process.owner"] = owner
        elif not options.mute_process_user_error:
            self._failed(out, 0, "a process belongs to a user id without a name on this machine", f"{name}: uid {uid}")
        attributes = {key: value for key, value in values.items() if key in self._attributes}
        if self._passes is not None and not self._passes(attributes):
            return None, name
        return resource_bytes(attributes.items()), name

    def _executable(self, out: Recorder, path: str, name: str, has_arguments: bool) -> str:
        try:
            return os.readlink(path + "/exe")
        except PermissionError as error:
            if not self._options.mute_process_exe_error:
                self._failed(out, 1, "cannot read the path of an executable", f"{name}: {error.strerror}")
        except FileNotFoundError:
            if has_arguments and not os.path.exists(path + "/stat"):
                raise  # it has ended; a kernel thread, which has no executable, has no arguments either
        return ""

    def _cpu(self, out: Recorder, stat: Stat, before: tuple[int, Stat] | None, elapsed: int) -> None:
        """`elapsed` nanoseconds of all CPUs together lie between `before` and now."""
        for state, seconds in (("user", stat.user), ("system", stat.system), ("wait", stat.wait)):
            out.add("process.cpu.time", seconds, state)
        if before is not None and out.on("process.cpu.utilization"):
            for state, new, old in (
                ("user", stat.user, before[1].user),
                ("system", stat.system, before[1].system),
                ("wait", stat.wait, before[1].wait),
            ):
                out.add("process.cpu.utilization", (new - old) / elapsed * 1e9 if elapsed > 0 else 0.0, state)

    def _memory(self, out: Recorder, path: str, total: int) -> None:
        # statm adds up the counters of all CPUs, what stat says may be some pages behind.
        columns = read_text(path + "/statm").split()
        virtual, resident = int(columns[0]) * self._page, int(columns[1]) * self._page
        out.add("process.memory.usage", resident)
        out.add("process.memory.virtual", virtual)
        if total:
            out.add("process.memory.utilization", 100 * resident / total)

    def _rest(self, out: Recorder, path: str, name: str, stat: Stat, now: int) -> None:
        out.add("process.paging.faults", stat.major_faults, "major")
        out.add("process.paging.faults", stat.minor_faults, "minor")
        out.add("process.threads", stat.threads)
        out.add("process.uptime", (now - stat.start_ns) / 1e9)
        if out.on("process.disk.io", "process.disk.operations"):
            self._io(out, path, name)
        for metric, problem, read in (
            ("process.context_switches", "the context switches", _context_switches),
            ("process.open_file_descriptors", "the open files", _descriptors),
            ("process.signals_pending", "the pending signals", _signals),
        ):
            if out.on(metric):
                try:
                    read(out, path)
                except PermissionError as error:
                    self._failed(out, 1, f"cannot read {problem} of a process", f"{name}: {error.strerror}")

    def _io(self, out: Recorder, path: str, name: str) -> None:
        try:
            text = read_text(path + "/io")
        except PermissionError as error:
            if not self._options.mute_process_io_error:
                self._failed(out, 1, "cannot read the I/O counters of a process", f"{name}: {error.strerror}")
            return
        counters = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        out.add("process.disk.io", int(counters["rchar"]), "read")
        out.add("process.disk.io", int(counters["wchar"]), "write")
        out.add("process.disk.operations", int(counters["syscr"]), "read")
        out.add("process.disk.operations", int(counters["syscw"]), "write")


def _real_uid(status: str) -> int:
    at = status.find("\nUid:")
    return int(status[at + 5 :].split(None, 1)[0]) if at >= 0 else -1


def _context_switches(out: Recorder, path: str) -> None:
    voluntary = involuntary = 0
    for thread in os.listdir(path + "/task"):
        try:
            status = read_text(f"{path}/task/{thread}/status")
        except (FileNotFoundError, ProcessLookupError):
            continue  # the thread has ended
        for line in status.splitlines():
            if line.startswith("voluntary_ctxt_switches:"):
                voluntary += int(line.split()[1])
            elif line.startswith("nonvoluntary_ctxt_switches:"):
                involuntary += int(line.split()[1])
    out.add("process.context_switches", involuntary, "involuntary")
    out.add("process.context_switches", voluntary, "voluntary")


def _descriptors(out: Recorder, path: str) -> None:
    out.add("process.open_file_descriptors", len(os.listdir(path + "/fd")))


def _signals(out: Recorder, path: str) -> None:
    for line in read_text(path + "/status").splitlines():
        if line.startswith("ShdPnd:"):
            out.add("process.signals_pending", int(line.split()[1], 16).bit_count())
