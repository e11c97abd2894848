"""`kofagent COMMAND`: arguments of every command. What a command does is in the file of its name."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence

from kofagent import __version__

SOURCES_HELP = """\
where the configuration comes from:
  --values FILE --collector NAME   values of KOF 1.2 and later: of kof-collectors, of the umbrella chart, of an annotation;
                                   NAME,NAME,... runs several in one process (daemon,target-allocator,controller-k0s)
  --values FILE --role ROLE        collectors-values.yaml of KOF 0.1 to 1.1; repeat --values to merge files, as helm -f does
  --config FILE                    OpenTelemetry Collector YAML; repeat to merge, as the collector does; also yaml:KEY: VALUE
With both, the configuration is merged over what the values generate.
"""


def _sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--values", action="append", default=[], metavar="FILE", help="a file of KOF's values (repeatable)")
    parser.add_argument(
        "--collector",
        action="append",
        metavar="NAME[,NAME...]",
        help="collector of KOF 1.2 and later: cluster, target-allocator, daemon, controller-k0s or another; "
        "several run in one process",
    )
    parser.add_argument("--role", choices=("node", "k8scluster"), help="which agent of KOF 0.1 to 1.1: node or k8scluster")
    parser.add_argument(
        "--generation",
        metavar="VERSION",
        help="version of KOF that the values are for: 0.1.1, 0.3.0, 1.2.0 to 1.11.0 (default: the newest that their keys allow)",
    )
    parser.add_argument(
        "--part",
        metavar="PART",
        help="part of an umbrella chart's values, if there are several: kof-child, kof-regional, management, kof-collectors",
    )
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help="collector configuration (repeatable)")


OTTL_HELP = """\
The record is read from standard input (or --input): OTLP JSON, of a whole request (resourceLogs, resourceSpans or
resourceMetrics) or of one item of the context: a log record, a span, an event, a metric, a data point, an exemplar, a resource
or a scope. Of each item, lines with - are before and lines with + after the statements; a condition is shown with the value of
each of its parts.

"""


def _ottl(command: Callable[..., argparse.ArgumentParser]) -> None:
    ottl = command(
        "ottl",
        "run statements of the transformation language on a record, or explain a condition",
        """kofagent ottl --context log 'set(attributes["level"], "info") where IsMatch(body, "^INFO")' < record.json""",
        OTTL_HELP,
    )
    contexts = ("resource", "scope", "log", "span", "spanevent", "metric", "datapoint", "exemplar")
    ottl.add_argument("statement", metavar="STATEMENT", nargs="+", help="statements or conditions, as in transform and filter")
    ottl.add_argument("--context", choices=contexts, help="what they are about (default: the context that their paths name)")
    ottl.add_argument("--input", metavar="FILE", help="the record's file (default: standard input)")
    ottl.add_argument("--all", action="store_true", help="show what has not changed as well")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="kofagent",
        description="OpenTelemetry-compatible telemetry collector agent for k0rdent's KOF.",
        epilog="example: kofagent run --values collectors-values.yaml --collector daemon",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kofagent {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str, example: str, more: str = "") -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=f"{more}example: {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    run = command(
        "run",
        "run the pipelines of a configuration until SIGTERM or SIGINT; SIGHUP reloads",
        "kofagent run --values collectors-values.yaml --collector daemon,target-allocator",
        SOURCES_HELP,
    )
    _sources(run)
    run.add_argument(
        "--kubeconfig",
        metavar="FILE",
        nargs="?",
        const="",
        help="reach the Kubernetes API with this kubeconfig, from outside the cluster; without FILE: $KUBECONFIG or ~/.kube/config",
    )
    run.add_argument(
        "--state",
        metavar="DIR",
        help="with --values: directory for queues and places in log files, which outlive a restart; none: in memory (default: "
        "$KOFAGENT_STATE, else the first that works of systemd's $STATE_DIRECTORY, /var/lib/otelcol/file_storage and "
        "~/.local/state/kofagent)",
    )
    run.add_argument("--context", metavar="NAME", default="", help="context of the kubeconfig (default: its current one)")
    dev = command(
        "dev",
        "collect this machine's metrics and logs and local OTLP into an embedded region, and show them live",
        "kofagent dev --logs '/var/log/*.log'",
    )
    dev.add_argument("--logs", action="append", default=[], metavar="GLOB", help="log files to tail (default: /var/log)")
    dev.add_argument("--config", action="append", default=[], metavar="FILE", help="configuration merged over the built-in one")
    dev.add_argument("--seconds", type=float, default=0, help="stop after this many seconds (default: never)")
    dev.add_argument(
        "--otlp-grpc", default="127.0.0.1:4317", metavar="HOST:PORT", help="address for OTLP/gRPC (default: %(default)s)"
    )
    dev.add_argument(
        "--otlp-http", default="127.0.0.1:4318", metavar="HOST:PORT", help="address for OTLP/HTTP (default: %(default)s)"
    )
    dev.add_argument(
        "--region", default="127.0.0.1:18480", metavar="HOST:PORT", help="address of the embedded region (default: %(default)s)"
    )
    validate = command(
        "validate",
        "check a configuration and report all errors",
        "kofagent validate --config otel.yaml",
        SOURCES_HELP,
    )
    _sources(validate)
    validate.add_argument(
        "--without-secrets", action="store_true", help="do not look up the Secrets that the configuration references"
    )
    render = command(
        "render",
        "print the effective configuration as YAML",
        "kofagent render --values collectors-values.yaml --collector daemon --explain",
        SOURCES_HELP,
    )
    _sources(render)
    render.add_argument(
        "--as-run",
        action="store_true",
        help="with what kofagent changes so that values of KOF 1.2 and later do what they are meant to",
    )
    render.add_argument("--explain", action="store_true", help="show for every key which layer and line set it")
    migrate = command(
        "migrate",
        "rewrite values of an older KOF as those of a newer one, with comments on all that differs",
        "kofagent migrate collectors-values.yaml --to 1.x > new-values.yaml",
    )
    migrate.add_argument("files", nargs="+", metavar="FILE", help="values of KOF 0.1.1 or 0.3.0; several are merged")
    migrate.add_argument("--to", required=True, metavar="VERSION", help="0.3.0, a version from 1.2.0 on, or 1.x for the newest")
    migrate.add_argument(
        "--generation", choices=("0.1.1", "0.3.0"), help="version that they are for (default: 0.3.0; with --to 0.3.0: 0.1.1)"
    )
    explain = command(
        "explain",
        "print the compiled form of a pipeline",
        "kofagent explain logs --values collectors-values.yaml --role node",
        SOURCES_HELP,
    )
    explain.add_argument("pipeline", metavar="PIPELINE", help="name of a pipeline, such as logs or metrics/node")
    _sources(explain)
    _ottl(command)
    components = command(
        "components",
        "list the components, or print their reference or the configuration's JSON Schema",
        "kofagent components --docs docs/components",
    )
    components.add_argument("component", nargs="?", metavar="TYPE", help="print the reference of one component type")
    components.add_argument("--schema", action="store_true", help="print the JSON Schema of the configuration")
    components.add_argument("--values-schema", action="store_true", help="print the JSON Schema of the chart's values")
    components.add_argument("--docs", metavar="DIR", help="write the reference, one Markdown page per component, into DIR")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code is 0, 1 for a bad configuration or a failed start, 2 for a bad command line."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if hasattr(arguments, "values"):
        if not arguments.values and not arguments.config:
            parser.error(f"{arguments.command} needs --values FILE with --collector NAME or --role ROLE, or --config FILE")
        collectors = [name.strip() for each in arguments.collector or () for name in each.split(",")]
        if not all(collectors):
            parser.error("--collector has an empty name; write --collector daemon,target-allocator")
        arguments.collectors = collectors if len(collectors) > 1 else []
        arguments.collector = collectors[0] if len(collectors) == 1 else None
        if arguments.role and collectors:
            parser.error("--collector is for values of KOF 1.2 and later, --role for older ones: give one of them")
        if arguments.values and not (arguments.role or collectors) and arguments.command != "validate":
            parser.error(
                "--values needs --collector NAME (KOF 1.2 and later: cluster, target-allocator, daemon, controller-k0s), "
                "or --role node or --role k8scluster (older ones)"
            )
    if arguments.command == "run" and arguments.context and arguments.kubeconfig is None:
        arguments.kubeconfig = ""
    module = importlib.import_module(f"kofagent.cli.{arguments.command}")
    try:
        code: int = module.main(arguments)
        return code
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output is gone
        return 0


if __name__ == "__main__":
    sys.exit(main())
