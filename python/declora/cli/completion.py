"""Runs `declora completion`: what a shell needs to complete commands, flags and names."""

import argparse
from functools import partial
from typing import Any

from declora.methods import METHODS, NAMED
from declora.topology.names import TOPOLOGIES

__all__ = ["add_to"]

_NAMES = {"--topology": [*TOPOLOGIES], "--method": [*METHODS, *NAMED]}
"""Names that a flag takes beside those that its help lists."""
_SCRIPT = """\
[[ -n $ZSH_VERSION ]] && autoload -U +X bashcompinit && bashcompinit
_declora() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
    case $before in
{values}
    esac
    if [[ -z $words ]]; then
        case ${{COMP_WORDS[1]}} in
{flags}
        esac
        [[ $COMP_CWORD -eq 1 ]] && words="{commands}"
        [[ $COMP_CWORD -gt 1 && $word != -* ]] && words=
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _declora declora"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command; it knows those that are added before and after it."""
    parser = commands.add_parser(
        "completion",
        help="print what a shell needs to complete flags",
        description="For bash and zsh: put `source <(declora completion)` into ~/.bashrc or ~/.zshrc.",
    )
    parser.set_defaults(command=partial(_run, commands))


def _run(commands: "argparse._SubParsersAction[Any]", options: argparse.Namespace) -> None:
    values = dict(_NAMES)
    flags = {}
    for name, parser in commands.choices.items():
        flags[name] = sorted(parser._option_string_actions)
        for flag, action in parser._option_string_actions.items():
            if isinstance(action.metavar, str) and action.metavar.startswith("{"):
                values[flag] = action.metavar.strip("{}").split(",")
    print(_SCRIPT.format(values=_cases(values, 8), flags=_cases(flags, 12), commands=" ".join(flags)))


def _cases(words: dict[str, list[str]], indent: int) -> str:
    return "\n".join(f'{" " * indent}{case}) words="{" ".join(these)}" ;;' for case, these in words.items())
