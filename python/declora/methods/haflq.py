"""HAFLQ: HAFL whose clients spend the bits of a message on the components that matter most to them."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora.codec import MaskedCodec, RunCodec
from declora.errors import ConfigError
from declora.methods.components import Components
from declora.methods.hafl import Hafl
from declora.plan import Columns, Plan
from declora.spec import Option, Word

if TYPE_CHECKING:
    from declora.federation import Federation
    from declora.model import Layout
    from declora.state import State

__all__ = ["Budget", "HaflQ"]


class HaflQ(Hafl):
    """HAFLQ (2024, arXiv 2411.06581, second version): HAFL, with the bits of a component by its importance.

    All components that a client trained in a round go by the run's codec. Then the most important go by the next finer
    one of its family, as many as keep the message within `cap` bytes; once all do, the most important go by the finest.
    The family of q2 is q2, q4 and q8, that of q4 q4 and q8. Codecs of other families have no finer ones. Where not all
    components fit even so, the least important are not sent. The head goes by the run's codec.

    Importance is HAFL's score after the local steps. That bits go by importance under a limit of traffic is the
    paper's; the rule itself could not be recovered, so that the order, a width for all before the next one for any, is
    ours: a doubled width takes far more of the error of a coarse component than of one that is fine. A message has
    2 bits of a map for each component. A base of fewer bits is a setting of all methods, `load_in_4bit`.

    Args:
        keep: As of `hafl`.
        b1: As of `hafl`.
        b2: As of `hafl`.
        cap: Bytes of a message, header included, at most. The default is half-way between what the message has with all
            its components by the run's codec and with all by the finest.
    """

    name = "haflq"
    options: ClassVar[Mapping[str, Option | Word]] = {**Hafl.options, "cap": Option(whole=True, least=1)}

    def __init__(self, keep: float | None = None, b1: float = 0.85, b2: float = 0.85, cap: int | None = None) -> None:
        super().__init__(keep, b1, b2)
        self.cap = cap

    def __str__(self) -> str:
        """The part with its options, as settings write it."""
        return super().__str__() + ("" if self.cap is None else f",cap={self.cap}")

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation with the finer codecs beside its own.

        Raises:
            ConfigError: As of `hafl`.
        """
        federation = super().arrange(federation)
        self._codec, self._budgets = federation.codec.graded(), dict[Columns, Budget]()
        if self._codec.finer or federation.exchange.silent:
            return replace(federation, codec=self._codec)
        note = (
            f"codec={self._codec.name!r} has no finer ones, so that method={self.name!r} has no bits to raise: its cap "
            "says how many components are sent. Use codec='q2' or 'q4'."
        )
        return replace(federation, notes=(*federation.notes, note))

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round.

        Raises:
            ConfigError: The cap is less than a message of the head and one component.
        """
        if self.cap is None or plan.sent in self._budgets:
            return plan
        budget = self._budget(plan.sent, Components(layout))
        least = budget.bytes([budget.head + int(budget.sizes.max(initial=0))])
        if least > self.cap:
            raise ConfigError(
                f"method={str(self)!r}: cap={self.cap} bytes are too few for a message of the head and one component, "
                f"which has {least:,}. Raise cap, e.g. cap={2 * least}, or leave it out."
            )
        return plan

    def carried(self, state: State, plan: Plan) -> NDArray[np.uint8]:
        """Returns the columns of each client's components of the round by their codecs, and the head."""
        scores, budget = self._scores(state), self._budget(plan.sent, self._components)
        found = np.zeros(scores.shape, dtype=np.uint8)
        for client, own in enumerate(found):
            order = np.lexsort((self._draws[client], -scores[client]))
            order = order[self._chosen[client, order]]
            own[order] = budget.spent(order, self.cap)
        return self._components.columns(found)

    def _budget(self, sent: Columns, components: Components) -> Budget:
        if sent not in self._budgets:
            self._budgets[sent] = Budget(self._codec, sent.take(components.units[None])[0], components.layers[-1][1])
        return self._budgets[sent]


class Budget:
    """What messages of some columns have room for.

    Args:
        codec: Of the run, with the finer ones.
        units: int64 `[sent columns]`, the component of each; -1 for those of the head.
        count: How many components there are.

    Attributes:
        sizes: int64 `[count]`: sent columns of each component.
        head: Those of the head.
    """

    def __init__(self, codec: RunCodec, units: NDArray[np.int64], count: int) -> None:
        self.sizes = np.bincount(units[units >= 0], minlength=count)
        self.head = int((units < 0).sum())
        self.bytes = MaskedCodec(codec, units).message_bytes
        self._codecs = 1 + len(codec.finer)

    def spent(self, order: NDArray[np.int64], cap: int | None) -> NDArray[np.uint8]:
        """Returns by which codec each of some components goes, uint8 `[components]`: 0 for none, 1 for the run's.

        Args:
            order: int64 `[components]`, which ones, the most important first.
            cap: Bytes of the message, at most, and at least those of the head; None: half-way between all by the run's
                codec and all by the finest.
        """
        sums = np.append(0, self.sizes[order].cumsum())
        if cap is None:
            cap = (self._bytes(sums, len(order), 1) + self._bytes(sums, len(order), self._codecs)) // 2
        found = np.zeros(len(order), dtype=np.uint8)
        for code in range(1, self._codecs + 1):
            raised = bisect.bisect_right(range(len(order) + 1), cap, key=partial(self._bytes, sums, code=code)) - 1
            found[:raised] = code
            if raised < len(order):
                break
        return found

    def _bytes(self, sums: NDArray[np.int64], raised: int, code: int) -> int:
        """Returns the bytes of a message whose first components go by a codec, and the others by the one before it."""
        counts = np.zeros(1 + self._codecs, dtype=np.int64)
        counts[code], counts[code - 1] = sums[raised], sums[-1] - sums[raised]
        counts[1] += self.head
        return self.bytes(counts[1:].tolist())
