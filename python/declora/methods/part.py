"""What a part of a method is: hooks into a round, which default to doing nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora.mixer import Mixer
from declora.plan import Phase, Plan
from declora.spec import Option, Word

if TYPE_CHECKING:  # rooms above this one, which hand a part what they are; and torch, which takes its time to load
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.methods.public import PublicTexts
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["Part", "Step"]


@dataclass(frozen=True)
class Step:
    """One optimizer step of all clients that take it."""

    plan: Plan
    phase: Phase
    number: int
    """Of the step in its round, from 0 on."""
    gradients: torch.Tensor
    """G, float32 `[clients, D]`, that the step goes by; columns that are not trained are zero."""
    rates: torch.Tensor
    """float32 `[clients]`: each client's learning rate; 0 for clients that do not take the step."""

    @property
    def last(self) -> bool:
        """Whether no other step of the round comes after it."""
        return self.number + 1 == sum(int(phase.steps.max(initial=0)) for phase in self.plan.phases)


class Part:
    """A part of a method. Every hook defaults to doing nothing; a method of no other part is Dec-LoRA.

    A method is a stack of parts, `"tad-lora:interval=5+mine"`. The hooks of a round, in order: `plan`, `before_round`,
    for each local step `gradient` and `after_step`, then `lift`, `carried`, `mix`, `refit`, and `after_round`. Those of
    all parts are called, first to last; only `lift`, `carried`, `mix`, `refit` (what is combined), `endpoint` (what is
    evaluated) and `per_example` belong to one part of a stack. The `plan` of the part that combines comes last, and so
    does the `gradient` of the part that changes gradients of examples: no other sees any before.

    A part keeps what it must know in later rounds in `state.room(self.name)`, and nothing else: a run that is resumed
    has that, and no attribute that was set during a round.
    """

    name: ClassVar[str]
    """What settings call it."""
    source: ClassVar[str] = ""
    """Where it is from, a paper's arXiv number or whoever is to be named."""
    options: ClassVar[Mapping[str, Option | Word]] = {}
    """The numbers and words that its constructor takes by name, as settings may give them: `name:option=1`."""
    over_graph: ClassVar[bool] = True
    """Whether clients talk over the graph of the settings, so that the rule of the weights is one for its edges."""
    sets_graph: ClassVar[bool] = False
    """Whether it says who talks to whom; then it is arranged before the others, and no other part may say it, too."""
    keeps_sums: ClassVar[bool] = False
    """Whether it needs gossip that keeps the sums over clients of what they send."""
    steady: ClassVar[bool] = True
    """Whether the same columns are sent in every round."""
    computes_once: ClassVar[bool] = True
    """Whether `gradient` calls `compute` no more than once."""
    own_scores: ClassVar[bool] = False
    """Whether clients' own models are the result of a run, and the averaged one has a mean that nobody uses."""
    reads_words: ClassVar[bool] = False
    """Whether the public texts that it reads are to be continued, by words of a vocabulary, not to be classified."""
    rank_free: ClassVar[bool] = False
    """Whether clients of unlike ranks are alike in what it combines, as in products of factors."""

    def __str__(self) -> str:
        """The part with its options, as settings write it."""
        return self.name

    @property
    def plans_ahead(self) -> bool:
        """Whether what it does in a round depends on how many rounds there are in all."""
        return False

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation as this part runs it; called once, before data and model are loaded.

        Raises:
            ConfigError: The part cannot be run like that; names the setting, the value and the fix.
        """
        return federation

    def calibrate(self, federation: Federation, steps: NDArray[np.int64]) -> Federation:
        """Returns the federation as this part runs it; called once, when it is known what each client has and does.

        Args:
            federation: With each client's samples.
            steps: `[clients]`: local steps of each client in a round.

        Raises:
            ConfigError: The part cannot be run like that; names the setting, the value and the fix.
        """
        return federation

    def read_public(self, texts: PublicTexts) -> None:
        """Takes the public texts of the run, to ask of them what it needs in rounds; called once, after `calibrate`.

        A part that has this hook needs them: no run of it begins without `public_data`.
        """
        return

    def begin(self, state: State, layout: Layout) -> None:
        """Changes the adapters that clients begin with, in place.

        Args:
            state: With the clients' common first adapter.
            layout: The columns of the adapters.
        """
        return

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns the state of its own that a run begins with, by name; best with a row for each client.

        Args:
            state: With the adapters that clients begin with.
            layout: The columns of the adapters.
        """
        return {}

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns what happens in a round: which steps, which columns are trained and sent, which weights.

        It may depend on `plan.event` and on what `arrange` has seen, on nothing that happened in other rounds.
        """
        return plan

    def before_round(self, state: State, plan: Plan) -> None:
        """Looks at `state`, or changes it in place, before the local steps."""
        return

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Computes the gradients of a step into `step.gradients`, by `compute` as often as it likes.

        Returns:
            Each client's loss, float32 `[clients]`, as `compute` returns it.
        """
        return compute()

    def per_example(self, gradients: torch.Tensor) -> None:
        """Changes gradients of examples in place; where a part does, each is computed alone.

        What a step goes by, and `compute` computes, is then their sum over a client's examples by the mean size of its
        batches, and a client's loss likewise.

        Args:
            gradients: float32 `[examples, D]`, some of a step's: of each example's own mean loss, zero in columns that
                are not trained.
        """
        return

    def after_step(self, state: State, step: Step) -> None:
        """Changes `state.adapter` in place after an optimizer step."""
        return

    def lifted(self, layout: Layout) -> Layout:
        """Returns the columns of what `lift` returns."""
        return layout

    def units(self, layout: Layout) -> NDArray[np.int64] | None:
        """Returns the unit of each column of what `lift` returns, int64 `[width]`, where clients choose what they send.

        A message then has, or lacks, the columns of one unit together, see `carried`, and says so by a bit for each
        unit in front of its numbers. It has all columns of no unit, -1. None: clients do not choose.
        """
        return None

    def carried(self, state: State, plan: Plan) -> NDArray[np.bool_] | NDArray[np.uint8] | None:
        """Returns which columns of what `lift` returned each client's message has, bool `[clients, width]`.

        What no neighbour sent, `mix` leaves as it was; of what some sent it takes the weighted mean of these alone.
        Where `arrange` gave the federation a codec that has finer ones, `RunCodec.graded`, it may be uint8 instead: 0
        for a column that a message lacks, 1 for one by the codec itself, and from 2 on by the finer ones.
        """
        return None

    def origin(self, state: State) -> torch.Tensor:
        """Returns what everybody knows that clients begin with, `[clients, width]`, as if `lift` had returned it."""
        return state.adapter

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns what is combined, float32 `[clients, width]`: P itself, or rows that `refit` turns into it again.

        Of its columns, those of `plan.sent` are sent and mixed. Where these are other columns than the adapter's, the
        part's own `plan`, which is called last, turns those of the adapter into them.
        """
        return state.adapter

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Combines `rows`, float32 `[clients, sent columns]`, in place with what arrived.

        Args:
            mixer: The rule of the run.
            inbox: What arrived.
            rows: What `lift` returned, of the columns that are sent.
            layout: The columns of what `lift` returned.
            gamma: Consensus step size.
        """
        inbox.mix(mixer, rows, gamma=gamma)

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Takes `mixed [clients, width]`, what `lift` returned as it was changed in place, back into `state`."""
        return

    def after_round(self, state: State, plan: Plan, inbox: Inbox) -> None:
        """Changes `state` in place at the end of a round."""
        return

    def measured(self, state: State) -> Mapping[str, float]:
        """Returns what is reported of `state` after a round, by column of the history."""
        return {}

    def endpoint(
        self, state: State, layout: Layout, clients: Sequence[int], law: NDArray[np.float64] | None
    ) -> torch.Tensor:
        """Returns the adapter that is evaluated for all, float32 `[D]`: the mean of those of `clients`.

        Args:
            state: After a round.
            layout: The columns of the adapters.
            clients: Whose count.
            law: float64 `[all clients]`, what each counts; None: all the same.
        """
        from declora.means import weighted_mean

        counts = np.ones(len(clients)) if law is None else law[list(clients)]
        return weighted_mean(state.adapter, clients, counts)
