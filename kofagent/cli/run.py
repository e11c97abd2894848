"""`kofagent run`: pipelines until SIGTERM or SIGINT, SIGHUP reloads."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys

from kofagent.cli.sources import explain, load, print_warnings
from kofagent.component.protocols import Kubeconfig, StartError
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import LoadedConfig
from kofagent.memory import garbage
from kofagent.pipeline.graph import StartErrors
from kofagent.pipeline.service import Service, run_until
from kofagent.pipeline.watchdog import Watchdog

log = logging.getLogger("kofagent.run")


def main(arguments: argparse.Namespace) -> int:
    """0 after a drained stop, 1 with all errors of a configuration that cannot run."""
    try:
        config = load(arguments)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 1
    print_warnings(config)
    return asyncio.run(_run(config, arguments))


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


async def _run(config: LoadedConfig, arguments: argparse.Namespace) -> int:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    place = None
    if arguments.kubeconfig is not None:
        from kofagent.cli import standalone

        looking = asyncio.create_task(standalone.look(arguments.kubeconfig, arguments.context, _note))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([looking, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not looking.done():
            looking.cancel()
            return 0
        try:
            place = await looking
        except StartError as error:
            print(f"kofagent run: {error}", file=sys.stderr)
            return 1
        config = standalone.adapt(config, place, _note)
    kubeconfig = None if place is None else Kubeconfig(arguments.kubeconfig, arguments.context)
    service = Service(config, kubeconfig=kubeconfig, environ=os.environ)
    try:
        await service.start()
    except StartErrors as errors:
        print(explain(errors, config), file=sys.stderr)
        return 1
    garbage.settle()
    newest = config

    def read_plan() -> LoadedConfig:
        nonlocal newest
        newest = load(arguments)
        return newest if place is None else standalone.adapt(newest, place, _note)

    watchdog = Watchdog(logging.getLogger("kofagent.watchdog"))
    watchdog.start()
    await run_until(service, stop, reload, read_plan, lambda error: explain(error, newest))
    log.info("stopping")
    await service.stop()
    watchdog.stop()
    log.info("stopped")
    return 0
