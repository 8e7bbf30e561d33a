"""The command line: `declora simulate`, `declora topology`, `declora conformance`.

The flags of `simulate` are the fields of `SimulationConfig`.
"""

import argparse
import ast
import dataclasses
import inspect
import sys
from collections.abc import Sequence
from typing import Any

import declora
from declora.config import SimulationConfig, load_toml
from declora.errors import ConfigError, ConformanceError, DecloraError
from declora.settings import parse_value

__all__ = ["main"]

# Settings whose text is a name and never a TOML value.
_TEXT = {
    "model",
    "data",
    "topology",
    "codec",
    "mixer",
    "attack",
    "partition",
    "method",
    "compare",
    "out",
    "eval_data",
    "weights",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 0, 1 for an error of declora's own, 2 for unknown flags."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except DecloraError as error:
        print(f"declora: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("declora: interrupted", file=sys.stderr)
        return 130
    return 0


def _simulate(options: argparse.Namespace) -> None:
    settings = load_toml(options.config) if options.config else {}
    for name, text in options.settings.items():
        value = text if (name in _TEXT and text.lower() != "none") or name == "codec" else parse_value(text)
        _set(settings, name, value)
    settings.setdefault("out", None)
    result = declora.simulate(SimulationConfig().override(**settings))
    print(result)
    if settings["out"]:
        print(f"\nReport: {settings['out']}/report.html")


def _set(settings: dict[str, Any], name: str, value: Any) -> None:
    """Sets `name`, or with `lora.r` one field of the table `lora`."""
    table, _, inner = name.partition(".")
    if not inner:
        settings[name] = value
        return
    if table != "lora":
        raise ConfigError(f"--{name}: only lora has fields of its own. Use e.g. --lora.r 8.")
    start = settings.get(table, SimulationConfig().lora)
    settings[table] = {**start, inner: value.split(",") if isinstance(value, str) and "," in value else value}


def _topology(options: argparse.Namespace) -> None:
    from declora.codec import parse_codec
    from declora.topology import Topology, describe

    topology = Topology.build(options.spec, options.clients, weights=options.weights, seed=options.seed)
    size = parse_codec(options.codec).frame_bytes(options.parameters)
    print(describe(topology, payload_bytes=size))
    print(f"\nOne message: {options.parameters:,} parameters as {options.codec}, {size:,} bytes with its header.")


def _conformance(options: argparse.Namespace) -> None:
    """Prints the tables; an error, and so a status of 1, where something does not hold what it promises."""
    from declora import testing
    from declora.report import to_markdown, to_text
    from declora.topology import Topology

    everything = not (options.codec or options.topology or options.matrix)
    codecs = options.codec or (testing.CODECS if everything else ())
    names = options.topology or (testing.TOPOLOGIES if everything else ())
    matrices = {name: Topology.build(name, options.clients, seed=options.seed) for name in names}
    matrices |= {path: testing.load_matrix(path) for path in options.matrix}
    reports = [testing.check_codec(name, draws=options.draws, seed=options.seed) for name in codecs]
    found = [testing.check_matrix(matrix, name=name, seed=options.seed) for name, matrix in matrices.items()]
    show = to_markdown if options.markdown else to_text
    tables = [testing.codec_table(reports)] if reports else []
    tables += [testing.matrix_table(found)] if found else []
    print("\n".join(show(table) for table in tables))
    failed = [report.name for report in reports if not report.passed]
    failed += [report.name for report in found if not report.passed]
    if failed:
        raise ConformanceError(f"{', '.join(failed)} did not pass; the verdicts say why.")


class _Collect(argparse.Action):
    """Collects given flags by name, so that only those override the config file."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.settings = {**namespace.settings, self.dest: values}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="declora",
        description="Fine-tune one language model together, with LoRA over a graph and no server.",
    )
    parser.add_argument("--version", action="version", version=f"declora {declora.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    simulate = commands.add_parser(
        "simulate",
        help="run a federation in this process",
        description="Without arguments: the embedded run.",
    )
    simulate.add_argument("--config", metavar="FILE", help="settings in TOML (run.toml) or JSON; flags override them")
    simulate.set_defaults(command=_simulate, settings={})
    documents = _field_documents()
    for field in dataclasses.fields(SimulationConfig):
        flag = "--" + field.name.replace("_", "-")
        if field.type is bool:
            simulate.add_argument(
                flag,
                dest=field.name,
                action=_Collect,
                nargs="?",
                const="true",
                help=documents[field.name],
                metavar="BOOL",
            )
        else:
            simulate.add_argument(flag, dest=field.name, action=_Collect, help=documents[field.name], metavar="VALUE")
    for name in ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora"):
        simulate.add_argument(
            f"--lora.{name}",
            dest=f"lora.{name}",
            action=_Collect,
            help="field of peft.LoraConfig",
            metavar="VALUE",
        )
    conformance = commands.add_parser(
        "conformance",
        help="measure what codecs and mixing matrices promise",
        description="Without arguments: all of declora's own.",
    )
    conformance.add_argument("--codec", action="append", default=[], help="a codec; may be given several times")
    conformance.add_argument("--topology", action="append", default=[], help="a named topology; likewise")
    conformance.add_argument(
        "--matrix", action="append", default=[], metavar="FILE", help="a mixing matrix: .npy, .npz (scipy) or .csv"
    )
    conformance.add_argument("--clients", type=int, default=16, help="clients of the named topologies")
    conformance.add_argument("--draws", type=int, default=64, help="messages per codec and input")
    conformance.add_argument("--seed", type=int, default=0)
    conformance.add_argument("--markdown", action="store_true", help="print Markdown tables")
    conformance.set_defaults(command=_conformance)
    topology = commands.add_parser("topology", help="print weights, spectral gap and what one round costs")
    topology.add_argument("spec", help="ring, torus, erdos-renyi:0.5, base:2 ...")
    topology.add_argument("--clients", type=int, default=10)
    topology.add_argument("--weights", default="metropolis", help="metropolis, uniform or laplacian")
    topology.add_argument("--codec", default="q4", help="codec of the messages")
    topology.add_argument("--parameters", type=int, default=74498, help="trained parameters of one client")
    topology.add_argument("--seed", type=int, default=0)
    topology.set_defaults(command=_topology)
    return parser


def _field_documents() -> dict[str, str]:
    """Returns the text under each field of `SimulationConfig`: the flags' help is the fields' documentation."""
    body = ast.parse(inspect.getsource(SimulationConfig)).body[0]
    assert isinstance(body, ast.ClassDef)
    documents: dict[str, str] = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            documents[field.target.id] = str(text.value.value).replace("%", "%%")
    return documents
