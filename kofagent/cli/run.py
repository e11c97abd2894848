"""`kofagent run`: pipelines until SIGTERM or SIGINT, SIGHUP reloads."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial

from kofagent.cli.sources import explain, load, load_several, print_of_several, print_warnings
from kofagent.component.protocols import Kubeconfig, StartError
from kofagent.config.errors import ConfigErrors
from kofagent.config.load import LoadedConfig
from kofagent.memory import garbage
from kofagent.pipeline.graph import StartErrors
from kofagent.pipeline.service import Service, run_until
from kofagent.pipeline.supervisor import Supervisor
from kofagent.pipeline.watchdog import Watchdog

log = logging.getLogger("kofagent.run")


def main(arguments: argparse.Namespace) -> int:
    """0 after a drained stop, 1 with all errors of a configuration that cannot run."""
    # The agent sets variables of the values itself: those are not the environment in which a reload reads the configuration.
    environ = dict(os.environ)
    try:
        if arguments.collectors and arguments.values:
            plans, together = load_several(arguments, environ)
            print_of_several(plans, together)
        else:
            config = load(arguments, environ)
            print_warnings(config)
            plans = {"": config}
    except ConfigErrors as errors:
        print(errors, file=sys.stderr)
        return 1
    return asyncio.run(_run(plans, arguments, environ))


def _note(text: str, of: str = "") -> None:
    print(f"note: {of}: {text}" if of else f"note: {text}", file=sys.stderr)


async def _run(plans: dict[str, LoadedConfig], arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """`plans` by the names of several collectors; the name of one alone is empty."""
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

    def adapted(plans: dict[str, LoadedConfig]) -> dict[str, LoadedConfig]:
        if place is None:
            return plans
        return {name: standalone.adapt(plan, place, partial(_note, of=name)) for name, plan in plans.items()}

    kubeconfig = None if place is None else Kubeconfig(arguments.kubeconfig, arguments.context)
    plans = adapted(plans)
    newest = plans.get("")
    service: Service | Supervisor
    if newest is not None:
        service = Service(newest, kubeconfig=kubeconfig, environ=os.environ)
    else:
        service = Supervisor(plans, kubeconfig=kubeconfig, environ=os.environ)
    try:
        await service.start()
    except StartErrors as errors:
        print(explain(errors, newest), file=sys.stderr)
        return 1
    garbage.settle()

    def read_plan() -> LoadedConfig:
        nonlocal newest
        newest = load(arguments, environ)
        return adapted({"": newest})[""]

    def read_plans() -> dict[str, LoadedConfig]:
        plans, together = load_several(arguments, environ)
        for note in together.notes:
            log.info("%s", note)
        return adapted(plans)

    watchdog = Watchdog(logging.getLogger("kofagent.watchdog"))
    watchdog.start()
    if isinstance(service, Service):
        await run_until(service, stop, reload, read_plan, lambda error: explain(error, newest))
    else:
        await run_until(service, stop, reload, read_plans, explain)
    log.info("stopping")
    await service.stop()
    watchdog.stop()
    return 0
