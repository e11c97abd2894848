"""The fault suite: whole agents under faults, and whether anything was lost, came twice, grew or stood still.

    python -m tests.faults                       every scenario in its full form: some hours
    python -m tests.faults --short               every scenario for half a minute
    python -m tests.faults kill down --short     two of them
    python -m tests.faults long-down --factor 0.1   outages and loads of the full form last a tenth
    python -m tests.faults disk-full --keep      leaves its folder: the agent's log, configuration, queues

Each scenario runs an agent (in a memory cgroup of 128 MiB where one can be made) between numbered sources and a sink that knows
what has arrived. At the end of each the agent's own metrics must balance and its log must have no unhandled exception. One line a
scenario: lost and twice are lines/spans/samples, peak is memory that the kernel cannot take back. The exit code is 1 if one fails.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from tests.faults.scenarios import SCENARIOS
from tests.faults.trial import LIMIT_MIB, Result, Trial

SHORT_MOST, FULL_MOST = 150, 4 * 3600
"""Seconds after which a scenario hangs."""


async def run(name: str, folder: Path, short: bool, limit_mib: int = LIMIT_MIB, factor: float = 1.0) -> Result:
    """One scenario in this folder; what it raises is a failure."""
    trial = Trial(name, folder, short, limit_mib=limit_mib, factor=factor)
    try:
        async with trial:
            try:
                async with asyncio.timeout(SHORT_MOST if short else FULL_MOST):
                    await SCENARIOS[name](trial)
            except Exception as error:
                trial.check(False, f"{error!r}\n{traceback.format_exc(limit=-3)}")
                trial.clean_log()
    finally:
        (folder / "result.txt").write_text(f"{trial.result}\n")
    return trial.result


def main() -> int:
    scenarios = "\n".join(f"  {name:<12} {(run.__doc__ or '').splitlines()[0]}" for name, run in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        epilog=f"scenarios:\n{scenarios}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all if none is given")
    parser.add_argument("--short", action="store_true", help="half a minute each instead of what the plan says")
    parser.add_argument("--factor", type=float, default=1.0, help="how much of the full form's times (default 1)")
    parser.add_argument("--keep", action="store_true", help="keep the folders, also of what passed")
    parser.add_argument("--limit-mib", type=int, default=LIMIT_MIB, help=f"memory of the agent's cgroup (default {LIMIT_MIB})")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.scenarios if name not in SCENARIOS]:
        parser.error(f"no scenario {', '.join(unknown)}; there are: {' '.join(SCENARIOS)}")
    root = Path(tempfile.mkdtemp(prefix="kofagent-faults-"))
    results = []
    names = arguments.scenarios or list(SCENARIOS)
    for number, name in enumerate(names, 1):
        print(f"{name} ({number} of {len(names)})", file=sys.stderr, flush=True)
        result = asyncio.run(run(name, root / name, arguments.short, arguments.limit_mib, arguments.factor))
        print(result, flush=True)
        results.append(result)
        if not arguments.keep and not result.failures:
            shutil.rmtree(root / name, ignore_errors=True)
    failed = [result.name for result in results if result.failures]
    print(f"{len(results) - len(failed)} of {len(results)} passed" + (f"; failed: {' '.join(failed)}" if failed else ""))
    if arguments.keep or failed:
        print(f"folders: {root}")
    else:
        shutil.rmtree(root, ignore_errors=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
