"""Distillation (KD-FedLLMs, arXiv 2501.04436): clients exchange what they make of public texts, and no adapters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from declora import seeds
from declora.errors import ConfigError
from declora.methods.part import Part, Step
from declora.plan import Columns, Plan
from declora.spec import Option

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.methods.public import PublicLoss, PublicTexts
    from declora.model import Layout
    from declora.state import Array, State

__all__ = ["Distillation", "distillation"]


class Distillation(Part):
    """Clients exchange logits of M public texts in V classes in the place of adapters: M V numbers, whatever the model.

    After its local steps client i sends its logits z_i(u) of all public texts u, `public_data`, of which no labels are
    known, and mixes them with its neighbours', zbar_i = z_i + gamma sum_j w_ij (z_j - z_i). In the next round the loss
    of each local step is

        task loss + weight tau^2 KL(softmax(zbar_i / tau) || softmax(z / tau))

    with the mean of KL over `batch` public texts, drawn for each step from the seed and the same for all clients. In
    the first round nobody has heard anything, and the task alone is learned. Adapters and heads stay where they are, so
    ranks may differ, and nothing of one is averaged.

    The source compares this with the exchange of adapters. Its equations and values could not be recovered: those above
    are of distillation (Hinton et al. 2015, arXiv 1503.02531), over a graph; defaults are ours. The reported training
    loss is the task's alone. For language models there is kd-topk.

    Args:
        tau: Temperature, above 0.
        weight: Of the distillation, lambda above; 0 is local training.
        batch: Public texts of a step; all, where there are fewer.
    """

    name = "kd"
    own_scores = True
    source = "arXiv 2501.04436"
    rank_free = True
    options: ClassVar[Mapping[str, Option]] = {
        "tau": Option(whole=False, least=0.0, above=True),
        "weight": Option(whole=False, least=0.0),
        "batch": Option(whole=True, least=1),
    }

    def __init__(self, tau: float = 2.0, weight: float = 1.0, batch: int = 8) -> None:
        self.tau, self.weight, self.batch = tau, weight, batch

    def __str__(self) -> str:
        """The part with its options."""
        return f"{self.name}:tau={self.tau:g},weight={self.weight:g},batch={self.batch}"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation, with a note on which scores count.

        Raises:
            ConfigError: Nobody talks.
        """
        if federation.exchange.silent:
            raise ConfigError(
                f"method={self.name!r} learns from what neighbours send, but another part of the method has clients "
                "who never talk. Use either without the other."
            )
        self._seed = federation.seed
        note = (
            f"With method={self.name!r} each client keeps its own adapter, so its own scores are what counts; the "
            "averaged model is a mean of adapters that never met."
        )
        return replace(federation, notes=(*federation.notes, note))

    def read_public(self, texts: PublicTexts) -> None:
        """Keeps what the clients' models make of the public texts."""
        self._public = texts

    def extra(self, state: State, layout: Layout) -> Mapping[str, Array]:
        """Returns zbar, float32 `[clients, M V]`."""
        return {"targets": self.origin(state)}

    def plan(self, plan: Plan, layout: Layout) -> Plan:
        """Returns the round in which all logits are sent, and nothing else."""
        return replace(plan, sent=Columns.all(self.lifted(layout).columns))

    def gradient(self, compute: Callable[[], torch.Tensor], state: State, step: Step) -> torch.Tensor:
        """Adds the gradient of distillation on some public texts to that of the task."""
        losses = compute()
        if self.weight and step.plan.event:
            draw = seeds.generator(self._seed, self.name, step.plan.event, step.number)
            texts = draw.permutation(self._public.count)[: self.batch]
            self._public.add_gradients(step, texts, self._loss_of(state))
        return losses

    def _loss_of(self, state: State) -> PublicLoss:
        targets = self._targets(state).view(len(state.adapter), self._public.count, self._public.classes)

        def loss(logits: torch.Tensor, clients: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            return self.weight * distillation(targets[clients, places], logits, self.tau)

        return loss

    def lifted(self, layout: Layout) -> Layout:
        """Returns the columns of logits, text by text."""
        from declora.model import Block, Layout

        return Layout([Block("public.logits", (self._public.count, self._public.classes), "head", 0)])

    def origin(self, state: State) -> torch.Tensor:
        """Returns zeros: no class is more likely than another."""
        return state.adapter.new_zeros(len(state.adapter), self._public.count * self._public.classes)

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns the clients' logits, `[clients, M V]`."""
        return self._public.logits(state.adapter).flatten(1)

    def refit(self, state: State, mixed: torch.Tensor, plan: Plan) -> None:
        """Takes zbar for the targets of the next round."""
        self._targets(state).copy_(mixed)

    def _targets(self, state: State) -> torch.Tensor:
        targets: torch.Tensor = state.room(self.name)["targets"]  # type: ignore[assignment]
        return targets


def distillation(targets: torch.Tensor, logits: torch.Tensor, tau: float) -> torch.Tensor:
    """Returns tau^2 KL(softmax(targets / tau) || softmax(logits / tau)) of each row of `[R, V]` logits, `[R]`."""
    from torch.nn.functional import kl_div, log_softmax

    wanted, found = (log_softmax(values / tau, dim=1) for values in (targets, logits))
    return tau**2 * kl_div(found, wanted, reduction="none", log_target=True).sum(dim=1)
