"""Runs `declora conformance`: what codecs and mixing matrices promise, measured."""

import argparse
from typing import Any

from declora.errors import ConformanceError

__all__ = ["add_to"]


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "conformance",
        help="measure what codecs and mixing matrices promise",
        description="Without arguments: all of declora's own.",
    )
    parser.add_argument("--codec", action="append", default=[], help="a codec; may be given several times")
    parser.add_argument("--topology", action="append", default=[], help="a named topology; likewise")
    parser.add_argument(
        "--matrix", action="append", default=[], metavar="FILE", help="a mixing matrix: .npy, .npz (scipy) or .csv"
    )
    parser.add_argument("--clients", type=int, default=16, help="clients of the named topologies")
    parser.add_argument("--draws", type=int, default=64, help="messages per codec and input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
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
