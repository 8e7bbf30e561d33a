"""What methods there are: what each does, what a message of it has, and where it is from."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from declora.exchange import StarExchange
from declora.federation import Federation
from declora.methods import METHODS, NAMED, Part, PublicLoss, PublicTexts, Step, build_method
from declora.model import Layout
from declora.plan import Phase, Plan
from declora.topology import Topology

__all__ = ["Described", "describe_method", "describe_methods", "reference_layout"]

_CLIENTS = 10
_PUBLIC = 200
"""Public texts."""
_CLASSES, _PLACES, _WORDS = 2, 128, 50_265
"""Of a text to classify; and next words to predict in a text to continue, of how many that there are."""
_STEPS = 5
"""Local steps of a round."""
_ROUNDS = 40
"""Rounds that are planned to see what is sent: a method may send other columns in other rounds."""


@dataclass(frozen=True)
class Described:
    """What there is to say of a method.

    Attributes:
        name: As settings write it, with the options that it may have in brackets.
        parts: The stack that the name stands for; empty for a part.
        about: What it does, in a sentence.
        text: All that its documentation says, with the equations.
        numbers: How many float32 numbers the least and the largest message of a client has.
        way: Who gets a message, in words.
        source: Where it is from.
        chosen: Whether clients choose in each round what they send of these numbers.
    """

    name: str
    parts: str
    about: str
    text: str
    numbers: tuple[int, int]
    way: str
    source: str
    chosen: bool = False

    @property
    def message(self) -> str:
        """Returns how many numbers a message has and how many bytes these are in float32, in words."""
        least, most = self.numbers
        if not most:
            return self.way
        unit, scale = ("MB", 4e-6) if most >= 10_000 else ("kB", 4e-3)
        count, size = f"{most:,}", f"{scale * most:.2f}"
        if least < most:
            count, size = f"{least:,} to {count}", f"{scale * least:.2f} to {size}"
        return f"{'up to ' * self.chosen}{count} numbers ({size} {unit}) {self.way}"


class _Sizes(PublicTexts):
    """How many public texts there are, for methods whose messages are about them; nobody computes any."""

    def __init__(self, *, words: bool) -> None:
        self.classes = _WORDS if words else _CLASSES
        self._each = _PLACES if words else 1

    @property
    def places(self) -> NDArray[np.int64]:
        return self._each * np.arange(_PUBLIC + 1)

    def summaries(
        self, rows: torch.Tensor, summary: Callable[[torch.Tensor], torch.Tensor], width: int
    ) -> torch.Tensor:
        raise NotImplementedError

    def add_gradients(self, step: Step, texts: NDArray[np.int64], loss: PublicLoss) -> None:
        raise NotImplementedError


def reference_layout(rank: int = 8) -> Layout:
    """Returns the adapter of RoBERTa-base with LoRA of this rank on query and value, and a head of two classes."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(12):
        for target in ("query", "value"):
            place = f"roberta.encoder.layer.{layer}.attention.self.{target}"
            shapes |= {f"{place}.lora_A.weight": (rank, 768), f"{place}.lora_B.weight": (768, rank)}
    for place, outputs in (("dense", 768), ("out_proj", 2)):
        shapes |= {f"classifier.{place}.weight": (outputs, 768), f"classifier.{place}.bias": (outputs,)}
    return Layout.of({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})


def describe_methods() -> list[Described]:
    """Returns what there is to say of every part that settings can name, then of the names that stand for some."""
    return [describe_method(name) for name in (*METHODS, *NAMED)]


def describe_method(name: str) -> Described:
    """Returns what there is to say of a part, or of a name that stands for a stack of them.

    What a message has is planned for `reference_layout` and 200 public texts, of two classes or with 128 next words
    each, on a ring of ten clients without compression.
    """
    if name in NAMED:
        sources = dict.fromkeys(part.source for part in build_method(NAMED[name]).parts if part.source)
        stands = f"Stands for {NAMED[name]}."
        numbers, way, chosen = _messages(NAMED[name])
        return Described(name, NAMED[name], stands, stands, numbers, way, ", ".join(sources), chosen)
    part = METHODS[name]
    text = inspect.getdoc(part) or ""
    about = re.split(r"(?<=\.)(?<!et al\.)\s", " ".join(text.split()), maxsplit=1)[0]
    numbers, way, chosen = _messages(_least(part))
    return Described(_spelled(part), "", about, text, numbers, way, part.source, chosen)


def _spelled(part: type[Part]) -> str:
    """Returns the name of a part with its options: those that it needs, and in brackets those that it may have."""
    defaults = inspect.signature(part).parameters
    needed: list[str] = []
    free: list[str] = []
    for key, option in part.options.items():
        default = defaults[key].default
        shown = f"{default:.4g}" if isinstance(default, float) else default
        word = f"{key}={'N' if default in (None, inspect.Parameter.empty) else shown}"
        (needed if option.needed else free).append(word)
    found = part.name + ":" * bool(needed) + ",".join(needed)
    return f"{found}[{',' if needed else ':'}{','.join(free)}]" if free else found


def _least(part: type[Part]) -> str:
    """Returns the shortest text that names a part: with examples of the options that it needs."""
    needed = [option.form(key) for key, option in part.options.items() if option.needed]
    return part.name + ":" * bool(needed) + ",".join(needed)


def _messages(method: str) -> tuple[tuple[int, int], str, bool]:
    """Returns how many numbers messages have, the fewest and the most, who gets them, and if clients choose of them."""
    stack = build_method(method)
    stack.read_public(_Sizes(words=stack.reads_words))
    federation = stack.arrange(Federation(_CLIENTS, 8, Topology.build("ring", _CLIENTS), rounds=_ROUNDS))
    if federation.exchange.silent:
        return (0, 0), "nothing is sent", False
    topology, layout = federation.topology, reference_layout(8 + federation.spare_rank)
    counts, edges = [], []
    for event in range(_ROUNDS):
        steps = Phase(np.full(federation.clients, _STEPS), layout.whole)
        plan = Plan(event, (steps,), layout.whole, topology.round(event))
        plan = stack.plan(plan, layout)
        counts.append(plan.sent.count)
        edges.append(plan.graph.messages)
    way = "to a server and back" if isinstance(federation.exchange, StarExchange) else "to each neighbour"
    return (min(counts), max(counts)), "of one client to one neighbour" if max(edges) == 1 else way, federation.choosing
