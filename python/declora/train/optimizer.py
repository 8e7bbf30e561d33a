"""One optimizer for all clients: their rows of P and G are its parameters and gradients."""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from declora.errors import unknown_name

__all__ = ["OPTIMIZERS", "SCHEDULES", "ClientOptimizer"]

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True)
class _Cohort:
    """Clients that take equally many steps: they step together, at one learning rate."""

    first: int
    """One of them."""
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler


class ClientOptimizer:
    """AdamW (arXiv 1711.05101) or SGD on every row of P at once, with a schedule and per-client clipping.

    Both are elementwise, so each client's row is updated exactly as an optimizer of its own would. Clients that take
    fewer steps than others have a schedule of their own length; while they wait, nothing of theirs moves: neither row
    nor moments, and no weight decay.
    """

    def __init__(
        self,
        values: torch.Tensor,
        gradients: torch.Tensor,
        *,
        name: str,
        learning_rate: float,
        weight_decay: NDArray[np.float64],
        momentum: float,
        schedule: str,
        warmup: float,
        steps: NDArray[np.int64],
        clip_norm: float | None,
    ) -> None:
        """Takes P, G and what is trained how.

        Args:
            values: P, float32 `[clients, D]`.
            gradients: G, likewise.
            name: One of `OPTIMIZERS`.
            learning_rate: Its peak.
            weight_decay: float64 `[D]`, of each column: decoupled (adamw) or L2 (sgd).
            momentum: Of sgd.
            schedule: One of `SCHEDULES`.
            warmup: Share of a client's steps in which its rate rises to the peak.
            steps: int64 `[clients]`: each one's in the whole run.
            clip_norm: Largest norm of a client's gradient; None: no clipping.
        """
        if name not in OPTIMIZERS:
            raise unknown_name("optimizer", name, OPTIMIZERS)
        if schedule not in SCHEDULES:
            raise unknown_name("schedule", schedule, SCHEDULES)
        self._gradients = gradients
        self._clip_norm = clip_norm
        self._cohorts: list[_Cohort] = []
        for count in np.unique(steps):
            members = np.flatnonzero(steps == count)
            # A leaf for each row: the last few entries of a leaf are rounded otherwise than whole vectors of them, so
            # in a common one a client's bits would change with who is beside it.
            parameters = [
                {
                    "params": [_leaf(values[row, columns], gradients[row, columns]) for row in members],
                    "weight_decay": float(weight_decay[columns.start]),
                }
                for columns in _runs(weight_decay)
            ]
            optimizer = _optimizer(name, parameters, lr=learning_rate, momentum=momentum)
            scheduler = transformers.get_scheduler(
                "constant_with_warmup" if schedule == "constant" else schedule,
                optimizer,
                num_warmup_steps=round(warmup * int(count)),
                num_training_steps=int(count),
            )
            self._cohorts.append(_Cohort(int(members[0]), optimizer, scheduler))

    @property
    def learning_rate(self) -> float:
        """The rate of the next step (the highest, where clients take unequally many)."""
        return max(float(cohort.optimizer.param_groups[0]["lr"]) for cohort in self._cohorts)

    def zero_grad(self) -> None:
        """Clears G in place (it must stay the matrix that the leaves' `.grad` are views of)."""
        self._gradients.zero_()

    def gradient_norms(self) -> torch.Tensor:
        """Returns each client's gradient norm, float32 `[clients]`, before clipping."""
        norms: torch.Tensor = torch.linalg.vector_norm(self._gradients, dim=1)
        return norms

    def step(self, norms: torch.Tensor, active: NDArray[np.bool_]) -> None:
        """Clips each client's gradient to `clip_norm`, updates P, and moves the schedules on by one.

        Args:
            norms: What `gradient_norms` returned.
            active: bool `[clients]`: who takes this step. Clients with equally many steps take it together.
        """
        if self._clip_norm is not None:
            # The same factor as torch.nn.utils.clip_grad_norm_, for each row.
            self._gradients.mul_((self._clip_norm / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1))
        for cohort in self._cohorts:
            if active[cohort.first]:
                cohort.optimizer.step()
                cohort.scheduler.step()

    def reset_moments(self) -> None:
        """Forgets momentum and second moments; the schedule goes on."""
        for cohort in self._cohorts:
            cohort.optimizer.state.clear()


def _optimizer(name: str, parameters: list[dict[str, Any]], *, lr: float, momentum: float) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=lr, fused=True)
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum)


def _runs(values: NDArray[np.float64]) -> list[slice]:
    """Returns the runs of equal neighbours among `values`."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def _leaf(values: torch.Tensor, gradients: torch.Tensor) -> torch.nn.Parameter:
    """Returns a parameter that shares storage with columns of a row of P, its gradient with those of G."""
    parameter = torch.nn.Parameter(values)
    parameter.grad = gradients
    return parameter
