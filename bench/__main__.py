"""`python -m bench [CASE ...]`: CPU microseconds per item and peak RSS of the whole agent, one line a case.

    python -m bench                                  # all cases
    python -m bench log_line --scale 4               # one, with more load
    python -m bench --otelcol PATH --vmagent PATH    # beside other agents, one after the other in the same run

The load, the backend and the agent are processes of their own; CPU is user and system time of the agent alone, from before
the load to when the agent says that it has sent all items. Compare figures of one run only: machines differ and are noisy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.cases import CASES, Case, Ports, dump, scrape_jobs


def free_ports(count: int) -> list[int]:
    import socket

    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def answers(url: str, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).read()
            return True
        except OSError:
            time.sleep(0.1)
    return False


def sent_items(port: int) -> float:
    """What the agent says its exporters have sent, all signals."""
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        if line.startswith(
            ("otelcol_exporter_sent_log_records", "otelcol_exporter_sent_spans", "otelcol_exporter_sent_metric_points")
        )
        and "_created" not in line
    )


def run(case: Case, agent: str, program: list[str], scale: float) -> str:
    """One case with one agent; the line to print."""
    folder = Path(tempfile.mkdtemp(prefix="kofagent-bench-"))
    ports = Ports(*free_ports(5))
    helpers = [
        subprocess.Popen([sys.executable, "-m", "bench.sink", str(ports.sink)]),
        subprocess.Popen([sys.executable, "-m", "bench.pages", str(ports.pages), "1200"]),
    ]
    config = folder / "config.yaml"
    command = [*program, "--config", str(config)]
    if agent == "vmagent":
        config.write_text(dump(scrape_jobs(ports)))
        command = [
            *program,
            f"-promscrape.config={config}",
            f"-httpListenAddr=127.0.0.1:{ports.metrics}",
            f"-remoteWrite.url=http://127.0.0.1:{ports.sink}/api/v1/write",
            f"-remoteWrite.tmpDataPath={folder}/buffer",
        ]
    else:
        config.write_text(dump(case.config(ports, folder)))
    with (folder / "agent.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **case.env})
    try:
        if not answers(f"http://127.0.0.1:{ports.metrics}/metrics") or not answers(f"http://127.0.0.1:{ports.sink}/"):
            raise SystemExit(f"bench: {agent} did not start:\n{(folder / 'agent.log').read_text()[-2000:]}")
        time.sleep(1)
        before = cpu_seconds(process.pid)
        if case.warm_up is not None:
            time.sleep(case.warm_up)
            before = cpu_seconds(process.pid)
            items = case.load(ports, folder, scale)
            used = cpu_seconds(process.pid) - before
        else:
            items = case.load(ports, folder, scale)
            deadline = time.monotonic() + 120
            while (sent := sent_items(ports.metrics)) < items * case.kept:
                if time.monotonic() > deadline:
                    raise SystemExit(f"bench: {agent} sent {sent:.0f} of {items} items in two minutes")
                time.sleep(0.1)
            used = cpu_seconds(process.pid) - before
        wire = int(urllib.request.urlopen(f"http://127.0.0.1:{ports.sink}/").read().split()[1])
        return (
            f"{case.name:<16} {agent:<9} {1e6 * used / items:7.2f} us CPU a {case.item:<7} "
            f"{peak_mib(process.pid):6.0f} MiB peak   {items:>9} items   {wire / items:6.1f} B/item out"
            + (f"   goal {case.goal:g} us" if agent == "kofagent" else "")
        )
    finally:
        process.terminate()
        process.wait(20)
        for helper in helpers:
            helper.kill()
            helper.wait()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case", nargs="*", choices=[*CASES, []], help="cases (default: all)")
    parser.add_argument("--scale", type=float, default=1.0, help="how much load (default: 1)")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each, in turn")
    parser.add_argument("--otelcol", metavar="PATH", help="an OpenTelemetry Collector to run beside")
    parser.add_argument("--vmagent", metavar="PATH", help="a vmagent to run beside (scrape only)")
    arguments = parser.parse_args()
    for name in arguments.case or CASES:
        case = CASES[name]
        agents = [("kofagent", [sys.executable, "-m", "kofagent", "run"])]
        if arguments.otelcol:
            agents.append(("otelcol", [arguments.otelcol]))
        if arguments.vmagent and "vmagent" in case.peers:
            agents.append(("vmagent", [arguments.vmagent]))
        for _ in range(arguments.repeat):
            for agent, program in agents:
                print(run(case, agent, program, arguments.scale), flush=True)


if __name__ == "__main__":
    main()
