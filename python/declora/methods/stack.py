"""A method: a stack of parts, whose hooks are called one after the other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from declora.errors import ConfigError, shown
from declora.methods.part import Part, Step
from declora.mixer import Mixer
from declora.plan import Plan
from declora.spec import described

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.methods.public import PublicTexts
    from declora.model import Layout
    from declora.state import State

__all__ = ["Stack"]

Given = TypeVar("Given")
RESERVED = ("adapter", "optimizer", "lies", "memory", "mixer", "clock", "late", "detector", "loss_scale")
"""Rooms that the state of every run has, which no part may be called like."""
_SPACE = ("lifted", "units", "carried", "origin", "lift", "mix", "refit")


class Stack:
    """The parts of a method in order, as one.

    Args:
        parts: At least one.

    Raises:
        ConfigError: Two parts would own what can have one owner, one stands there twice, or has no name to be called.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        names = [_name_of(part) for part in self.parts]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(f"method={str(self)!r} has {twice!r} twice. Name it once.")
        self._space = self._owner(_SPACE, "how clients' values are combined")
        self._end = self._owner(("endpoint",), "which adapter is evaluated for all")
        self._examples = self._owner(("per_example",), "what is done to gradients of examples")
        self._only_one([part for part in self.parts if part.sets_graph], "who talks to whom")
        if self.per_example and (often := next((part for part in self.parts if not part.computes_once), None)):
            raise ConfigError(
                f"method={str(self)!r}: {str(often)!r} computes several gradients in a step, but "
                f"{str(self._examples)!r} allows for one. Leave one of them out."
            )

    def __str__(self) -> str:
        """The parts with their options, as settings write them."""
        return "+".join(map(str, self.parts))

    @property
    def over_graph(self) -> bool:
        """Whether clients talk over the graph of the settings."""
        return all(part.over_graph for part in self.parts)

    @property
    def steady(self) -> bool:
        """Whether the same columns are sent in every round."""
        return all(part.steady for part in self.parts)

    @property
    def keeps_sums(self) -> bool:
        """Whether a part needs gossip that keeps the sums over clients of what they send."""
        return any(part.keeps_sums for part in self.parts)

    @property
    def plans_ahead(self) -> bool:
        """Whether what a part does in a round depends on how many rounds there are in all."""
        return any(part.plans_ahead for part in self.parts)

    @property
    def per_example(self) -> Callable[[torch.Tensor], None] | None:
        """What changes gradients of examples, see `Part.per_example`; None where no part does."""
        none = type(self._examples).per_example is Part.per_example
        return None if none else self._examples.per_example

    @property
    def rank_free(self) -> bool:
        """Whether clients of unlike ranks are alike in what is combined."""
        return self._space.rank_free

    @property
    def by_mixer(self) -> bool:
        """Whether what arrived is combined by the mixer, and not by a part itself."""
        return type(self._space).mix is Part.mix

    @property
    def plain(self) -> bool:
        """Whether clients' adapters are combined as they are, and no part does something to them afterwards."""
        return type(self._space) is Part and all(type(part).after_round is Part.after_round for part in self.parts)

    @property
    def chooses(self) -> bool:
        """Whether each client chooses in each round what it sends."""
        return type(self._space).units is not Part.units

    @property
    def own_scores(self) -> bool:
        """Whether clients' own models are the result of a run."""
        return any(part.own_scores for part in self.parts)

    @property
    def reads_public(self) -> bool:
        """Whether a part needs public texts."""
        return any(type(part).read_public is not Part.read_public for part in self.parts)

    @property
    def reads_words(self) -> bool:
        """Whether these are to be continued."""
        return any(part.reads_words for part in self.parts)

    def _owner(self, hooks: Sequence[str], what: str) -> Part:
        owners = [part for part in self.parts if any(getattr(type(part), h) is not getattr(Part, h) for h in hooks)]
        self._only_one(owners, what)
        return owners[0] if owners else Part()

    def _only_one(self, owners: Sequence[Part], what: str) -> None:
        if len(owners) > 1:
            first, second = (str(part) for part in owners[:2])
            raise ConfigError(f"method={str(self)!r}: both {first!r} and {second!r} say {what}. Leave one of them out.")

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation as all parts run it, see `Part.arrange`: who talks to whom before what depends on it.

        Raises:
            ConfigError: The parts cannot be run like that, or one gives something else.
        """
        for part in sorted(self.parts, key=lambda part: not part.sets_graph):
            federation = _given("arrange", part, part.arrange(federation), type(federation))
        if not self.chooses or federation.exchange.silent:
            return federation
        _check_choice(self._space, federation)
        return replace(federation, choosing=True)

    def calibrate(self, federation: Federation, steps: NDArray[np.int64]) -> Federation:
        """Returns the federation as all parts run it, see `Part.calibrate`.

        Raises:
            ConfigError: The parts cannot be run like that, or one gives something else.
        """
        for part in self.parts:
            federation = _given("calibrate", part, part.calibrate(federation, steps), type(federation))
        return federation

    def read_public(self, texts: PublicTexts) -> None:
        """Gives all parts the public texts of the run, see `Part.read_public`."""
        for part in self.parts:
            part.read_public(texts)

    def begin(self, state: State, layout: Layout) -> None:
        """Has all parts change the first adapters, then put the state of their own into `state`."""
        for part in self.parts:
            part.begin(state, layout)
        for part in self.parts:
            own = _given("extra", part, part.extra(state, layout), Mapping)
            for name, array in own.items():
                if not hasattr(array, "dtype") or not getattr(array, "ndim", 0):
                    raise ConfigError(
                        f"method part {part.name!r}: extra gives {described(array)} for {name!r}; it must give arrays "
                        "or tensors of at least one axis."
                    )
            if own:
                state.room(part.name).update(own)

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns what happens in a round, see `Part.plan`.

        Raises:
            ConfigError: A part gives something else.
        """
        for part in (*(part for part in self.parts if part is not self._space), self._space):
            plan = _given("plan", part, part.plan(plan, layout), Plan)
        return plan

    def before_round(self, state: State, plan: Plan) -> None:
        """Calls `Part.before_round` of all parts."""
        for part in self.parts:
            part.before_round(state, plan)

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Computes the gradients of a step, the first part outermost, see `Part.gradient`."""
        for part in (self._examples, *(part for part in reversed(self.parts) if part is not self._examples)):
            compute = partial(part.gradient, compute, state, step)
        return compute()

    def after_step(self, state: State, step: Step) -> None:
        """Calls `Part.after_step` of all parts."""
        for part in self.parts:
            part.after_step(state, step)

    def lifted(self, layout: Layout) -> Layout:
        """Returns the columns of what is combined."""
        return self._space.lifted(layout)

    def units(self, layout: Layout) -> NDArray[np.int64] | None:
        """Returns the unit of each column of what is combined, where clients choose what they send, see `Part.units`.

        Raises:
            ConfigError: The part gives something else.
        """
        if not self.chooses:
            return None
        units, width = self._space.units(layout), self.lifted(layout).columns
        if not isinstance(units, np.ndarray) or units.dtype != np.int64 or units.shape != (width,):
            raise ConfigError(
                f"method part {self._space.name!r}: units gives {described(units)}; it must give int64 [{width}]."
            )
        return units

    def carried(self, state: State, plan: Plan) -> NDArray[np.uint8] | None:
        """Returns which columns each client's message has, and by which codec, uint8, see `Part.carried`.

        Raises:
            ConfigError: The part gives something else.
        """
        if not self.chooses:
            return None
        carried, clients = self._space.carried(state, plan), len(state.adapter)
        if (
            not isinstance(carried, np.ndarray)
            or carried.dtype not in (np.bool_, np.uint8)
            or carried.shape != (clients, plan.sent.width)
        ):
            raise ConfigError(
                f"method part {self._space.name!r}: carried gives {described(carried)}; it must give bool or "
                f"uint8 [{clients}, {plan.sent.width}]."
            )
        return carried.view(np.uint8)

    def origin(self, state: State) -> torch.Tensor:
        """Returns what everybody knows that clients begin with."""
        return self._space.origin(state)

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns what is combined, see `Part.lift`."""
        return self._space.lift(state, plan)

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Combines rows in place with what arrived, see `Part.mix`."""
        self._space.mix(mixer, inbox, rows, layout=layout, gamma=gamma)

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Takes what was combined back into the state, see `Part.refit`."""
        self._space.refit(state, mixed, plan)

    def after_round(self, state: State, plan: Plan, inbox: Inbox) -> None:
        """Calls `Part.after_round` of all parts."""
        for part in self.parts:
            part.after_round(state, plan, inbox)

    def measured(self, state: State) -> dict[str, float]:
        """Returns what parts report of `state` after a round, see `Part.measured`."""
        return {name: value for part in self.parts for name, value in part.measured(state).items()}

    def endpoint(
        self, state: State, layout: Layout, clients: Sequence[int], law: NDArray[np.float64] | None
    ) -> torch.Tensor:
        """Returns the adapter that is evaluated for all, see `Part.endpoint`."""
        return self._end.endpoint(state, layout, clients, law)


def _name_of(part: Part) -> str:
    """Returns the name of a part, which is that of its room in the state of a run."""
    name = getattr(part, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+", name) or name in RESERVED:
        raise ConfigError(
            f"method part {type(part).__name__}: name={shown(name)} must be a word of letters, digits and dashes, none "
            f"of {', '.join(RESERVED)}. Set it in the class."
        )
    return name


def _check_choice(part: Part, federation: Federation) -> None:
    """Checks that messages of which each has columns of its own can be combined, and remembered by nobody."""
    if not federation.mixer.bears_gaps:
        raise ConfigError(
            f"method={str(part)!r} sends of each client some columns alone, but mixer={str(federation.mixer)!r} "
            "compares whole messages. Use mixer='linear', or method='dec-lora'."
        )
    if not federation.codec.memory.lossless:
        raise ConfigError(
            f"codec={federation.codec.name!r} remembers what was sent of each column, but method={str(part)!r} sends "
            f"others in each round. Use a codec without a memory, e.g. codec={federation.codec.plain!r}."
            if not federation.codec.needs_memory
            else f"codec={federation.codec.name!r} needs a memory of what was sent of each column, but "
            f"method={str(part)!r} sends others in each round. Use a codec without a memory, e.g. codec='q4'."
        )


def _given(hook: str, part: Part, value: Given, kind: type) -> Given:
    """Returns what a hook gave, after checking its kind."""
    if not isinstance(value, kind):
        raise ConfigError(
            f"method part {part.name!r}: {hook} gives {described(value)}; it must return a {kind.__name__}."
        )
    return value
