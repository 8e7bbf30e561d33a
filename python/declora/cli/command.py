"""Takes one command from its arguments to its exit status: which commands there are, and what becomes of errors."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import declora
from declora import process
from declora.cli import (
    audit,
    compare,
    completion,
    conformance,
    init,
    methods,
    plan,
    reproduce,
    resume,
    simulate,
    topology,
    validate,
    verify,
)
from declora.cli.edges import discard_output, prepare_streams
from declora.errors import ConfigError, DecloraError, cut, nearest
from declora.synonyms import SYNONYMS

__all__ = ["run"]

_COMMANDS = (
    init, validate, simulate, resume, verify, audit, compare, plan, methods, reproduce, conformance, topology,
    completion,
)  # fmt: skip


def run(arguments: Sequence[str] | None) -> int:
    """Runs a command and returns the exit status, see `declora.cli.main`."""
    prepare_streams()
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return 141
    except MemoryError as error:
        return _fail(f"out of memory: {error}" if str(error) else "out of memory", 1)
    except OSError as error:
        discard_output()
        return _fail(str(error), 1)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = _parser().parse_args(arguments)
        if process.ranks() > 1 and not getattr(options, "spread", False):
            raise ConfigError(
                "only `declora simulate` and `declora resume` run over several ranks, and WORLD_SIZE="
                f"{process.ranks()}. Start this without torchrun."
            )
        options.command(options)
    except DecloraError as error:
        return _fail(f"{type(error).__name__}: {error}", 1)
    return 0


def _fail(message: str, status: int) -> int:
    """Says why in one line and returns the exit status."""
    print(f"declora: {cut(message, 1500)}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="declora",
        description="Fine-tune one language model together, with LoRA over a graph and no server.",
    )
    parser.add_argument("--version", action="version", version=f"declora {declora.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_to(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in a line, not after sixty lines of usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Parses the arguments of this command; a flag that it does not have is refused with the one that is meant."""
        options, others = super().parse_known_args(args, namespace)
        for flag in (other.partition("=")[0] for other in others if other.startswith("--")):
            known = sorted(self._option_string_actions)
            also = {_flag(word): [_flag(name) for name in names] for word, names in SYNONYMS.items()}
            meant = " or ".join(name for name in nearest(flag, known, also) if name in known)
            self.error(f"{flag} is not known{f'; did you mean {meant}?' if meant else ''}")
        return options, others

    def error(self, message: str) -> NoReturn:
        self.exit(_fail(f"{message}{'' if message.endswith('?') else '.'} See {self.prog} --help.", 2))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
