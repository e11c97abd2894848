"""`kofagent run`: pipelines until SIGTERM or SIGINT, SIGHUP reloads."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys

from kofagent.cli.sources import explain, load, print_warnings
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import LoadedConfig
from kofagent.pipeline.graph import StartErrors
from kofagent.pipeline.service import Service, run_until

log = logging.getLogger("kofagent.run")


def main(arguments: argparse.Namespace) -> int:
    """0 after a drained stop, 1 with every error of a configuration that cannot run."""
    try:
        config = load(arguments)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 1
    print_warnings(config)
    if arguments.kubeconfig:
        from kofagent.kubernetes.client import set_default_kubeconfig

        path = os.path.expanduser(arguments.kubeconfig)
        if not os.access(path, os.R_OK):
            print(f"kofagent run: --kubeconfig {arguments.kubeconfig}: cannot be read; name a readable kubeconfig", file=sys.stderr)
            return 1
        set_default_kubeconfig(path)
        if not os.path.isdir("/var/log/pods"):
            print("note: this machine is no node of the cluster: receivers of container logs (/var/log/pods) find no files here",
                  file=sys.stderr)
    return asyncio.run(_run(config, arguments))


async def _run(config: LoadedConfig, arguments: argparse.Namespace) -> int:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    service = Service(config)
    try:
        await service.start()
    except StartErrors as errors:
        print(explain(errors, config), file=sys.stderr)
        return 1
    # what exists now stays; the collector need not look at it again and again
    gc.collect()
    gc.freeze()
    # columns and batches are many objects without cycles: looking for cycles among them was a fifth of a scrape's CPU
    gc.set_threshold(20_000, 20, 50)
    newest = config

    def read_plan() -> LoadedConfig:
        nonlocal newest
        newest = load(arguments)
        return newest

    await run_until(service, stop, reload, read_plan, lambda error: explain(error, newest))
    log.info("stopping")
    await service.stop()
    log.info("stopped")
    return 0
