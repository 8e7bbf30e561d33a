"""The protocol of callbacks: what users' code hears of a run."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from declora.errors import ConfigError, nearest, refuse
from declora.spec import spelled

if TYPE_CHECKING:
    import declora

__all__ = ["HOOKS", "Callback", "RunFacts", "check_callback"]


@dataclass(frozen=True)
class RunFacts:
    """Says which run it is that a callback hears of."""

    name: str
    """What names it, 32 hexadecimal digits: the same before and after an interruption, and no other run's."""
    label: str
    """What it is called: its label in a comparison, else its method."""
    settings: Mapping[str, object]
    """Its settings, as `config.json` has them."""
    rounds: int
    """Rounds of the whole run."""
    after: int
    """Rounds that an earlier part of it has done, after which it goes on; 0 where it begins, and all of them where it
    had finished before and is only returned."""
    folder: Path | None
    """Where it is written while it goes on; None where it is not."""


class Callback:
    """What hears of a run while it goes on: derive from it and define some hooks, each of which does nothing by itself.

    Objects go to `simulate(callbacks=[...])`, and hear of every run of a comparison, one after the other. In a cluster
    those of rank 0 do. A hook gets copies, and `on_end` the result itself: nothing that it does to copies changes the
    run. One that raises an exception stops the run after the round that it was called in, with a `CallbackError`; a
    hook is never called again after it.
    """

    def on_start(self, run: RunFacts) -> None:
        """Called before the first round, when all that can be refused has been."""

    def on_round(self, run: RunFacts, record: dict[str, Any]) -> None:
        """Called after each round, when it is written.

        Args:
            run: Which run it is.
            record: What was measured: a line of `metrics.jsonl`.
        """

    def on_evaluation(self, run: RunFacts, record: dict[str, Any]) -> None:
        """Called after `on_round` in rounds after which models were evaluated.

        Args:
            run: Which run it is.
            record: What `on_round` has been given: `average_accuracy`, `clients_accuracy_min` and others are in it.
        """

    def on_checkpoint(self, run: RunFacts, path: Path) -> None:
        """Called after `on_round` where a checkpoint was written.

        Args:
            run: Which run it is.
            path: Its folder, which is the run's own: a later checkpoint removes it.
        """

    def on_end(self, run: RunFacts, result: "declora.SimulationResult") -> None:
        """Called once when the run has finished and its folder is complete.

        Args:
            run: Which run it is.
            result: What `simulate` returns.
        """

    def on_stop(self, run: RunFacts, error: BaseException) -> None:
        """Called once instead of `on_end` where the run stops before, by any error or by Ctrl-C, which then goes on.

        Args:
            run: Which run it is.
            error: Why.
        """

    def __str__(self) -> str:
        """The class with its options."""
        return spelled(self)


HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))
"""The names of all hooks."""

_OF_OTHERS = {
    "on_train_begin": ("on_start",),
    "on_train_end": ("on_end",),
    "on_evaluate": ("on_evaluation",),
    "on_save": ("on_checkpoint",),
    "on_log": ("on_round",),
    "on_epoch_end": ("on_round",),
    "on_step_end": ("on_round",),
}
"""What other libraries call them."""


def check_callback(name: str, value: object) -> None:
    """Checks that an object is a callback whose hooks there are, and take what they are called with; calls none.

    Args:
        name: Of the setting, with the object's place in it.
        value: The object.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(value, type) and issubclass(value, Callback):
        raise ConfigError(f"{name}={value.__name__} is a class. Give an object of it, {value.__name__}(...).")
    if not isinstance(value, Callback):
        refuse(name, value, "an object of a class of yours that derives from declora.Callback")
    for hook in HOOKS:
        _check_call(f"{name}={spelled(value)!r}", hook, getattr(value, hook))
    for hook in dir(type(value)):
        if hook.startswith("on_") and hook not in HOOKS:
            meant = " or ".join(map(repr, nearest(hook, HOOKS, _OF_OTHERS)))
            hint = f" Did you mean {meant}?" if meant else ""
            raise ConfigError(
                f"{name}={spelled(value)!r} has a method {hook!r}, which is no hook and would never be called.{hint} "
                f"Hooks: {', '.join(HOOKS)}."
            )


def _check_call(callback: str, name: str, hook: Callable[..., object]) -> None:
    """Refuses a hook that would fail in the last round of all, or that nobody would wait for."""
    if inspect.iscoroutinefunction(hook):
        raise ConfigError(f"{callback}: {name} is async, and nobody would wait for it. Define it with `def` alone.")
    wanted = [*inspect.signature(getattr(Callback, name)).parameters][1:]
    try:
        inspect.signature(hook).bind(*wanted)
    except TypeError as error:
        raise ConfigError(f"{callback}: {name} is called as {name}({', '.join(wanted)}), but {error}.") from None
    except ValueError:  # one that is not written in Python
        return
