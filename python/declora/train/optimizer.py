"""One optimizer for all clients: their rows of P and G are its parameters and gradients."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from declora.cuda import to_device
from declora.errors import unknown_name
from declora.plan import Columns
from declora.state import Room

__all__ = ["OPTIMIZERS", "SCHEDULES", "ClientOptimizer", "schedule_of"]

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("linear", "cosine", "constant")

_BETAS, _EPS = (0.9, 0.999), 1e-8
"""Those of torch's AdamW."""
_MOST_KEPT = 64
"""Sets of rows and columns whose leaves are kept; a run has few, unless others step each time."""


@dataclass
class _Leaves:
    """The same columns of rows that step together; all of them views."""

    weight_decay: float
    values: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)
    moments: list[list[torch.Tensor]] = field(default_factory=list)
    """By array of the room."""
    ages: list[torch.Tensor] = field(default_factory=list)
    """Of each leaf, the age of its first block."""


class ClientOptimizer:
    """AdamW (arXiv 1711.05101) or SGD on every row of P at once, with a schedule and per-client clipping.

    Both are elementwise, so each client's row is updated exactly as an optimizer of its own would. Of a client that
    waits while others step, and of columns that are not trained, nothing moves: neither values nor moments, and no
    weight decay. The rate of a step is a function of its number, so an optimizer has no state beside its moments.
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
        edges: Sequence[int] = (0,),
        room: Room | None = None,
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
            edges: First columns of the blocks that are trained or not as a whole.
            room: Where the moments are kept: `first` and `second` `[clients, D]` with `ages [clients, blocks]` (of
                adamw), `momentum [clients, D]`.
        """
        if name not in OPTIMIZERS:
            raise unknown_name("optimizer", name, OPTIMIZERS)
        self._values, self._gradients = values, gradients
        self._name, self._momentum, self._clip_norm = name, momentum, clip_norm
        self._weight_decay = weight_decay
        self._changes = np.flatnonzero(np.diff(weight_decay)) + 1
        self._edges = np.union1d(np.array(edges, dtype=np.int64), self._changes)
        self._peak, self._steps = learning_rate, steps
        self._factors = {int(count): schedule_of(schedule, warmup, int(count)) for count in np.unique(steps)}
        self._room: Room = {} if room is None else room
        kept = ("first", "second") if name == "adamw" else ("momentum",) if momentum else ()
        self._room |= {moment: torch.zeros_like(values) for moment in kept}
        if name == "adamw":
            self._room["ages"] = torch.zeros(len(values), len(self._edges), dtype=torch.float32, device=values.device)
        self._leaves: dict[tuple[tuple[int, ...], bytes], list[_Leaves]] = {}
        self._moments = kept
        self._unlike: set[int] | None = None
        self._ages: NDArray[np.float32] | None = None

    def rates(self, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the rate of step `numbers[i]`, counted over the whole run, of each client i."""
        pairs, where = np.unique(np.stack([self._steps, numbers]), axis=1, return_inverse=True)
        found = [self._peak * self._factors[count](number) for count, number in pairs.T.tolist()]
        return np.array(found)[where]

    def gradient_norms(self) -> torch.Tensor:
        """Returns each client's gradient norm, float32 `[clients]`, before clipping."""
        norms: torch.Tensor = torch.linalg.vector_norm(self._gradients, dim=1)
        return norms

    def step(
        self,
        norms: torch.Tensor,
        active: NDArray[np.bool_],
        rates: NDArray[np.float64],
        trained: Columns | None = None,
    ) -> None:
        """Clips each client's gradient to `clip_norm`, and updates P.

        Args:
            norms: What `gradient_norms` returned.
            active: bool `[clients]`: who takes this step. Clients with equally many steps take it together.
            rates: float64 `[clients]`, what `rates` returned for this step.
            trained: The columns that it updates, whole blocks; all where None.
        """
        if self._clip_norm is not None:
            # The same factor as torch.nn.utils.clip_grad_norm_, for each row.
            self._gradients.mul_((self._clip_norm / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1))
        cuts = self._cuts(Columns.all(self._values.shape[1]) if trained is None else trained)
        for rate in np.unique(rates[active]).tolist():
            self._update(self._leaves_of(cuts, np.flatnonzero(active & (rates == rate))), rate)
        if self._name == "adamw":
            self._grow_older(cuts, active)

    def reset_moments(self, columns: Columns | None = None) -> None:
        """Forgets momentum and second moments of these columns, whole blocks, or of all; the schedule goes on."""
        spans = ((0, self._values.shape[1]),) if columns is None else columns.spans
        for start, stop in spans:
            for moment in self._moments:
                self._room[moment][:, start:stop] = 0.0
            if self._name == "adamw":
                self._room["ages"][:, self._blocks(start, stop)] = 0.0
                self._unlike = None
                if self._ages is not None:
                    self._ages[:, self._blocks(start, stop)] = 0.0

    def _blocks(self, start: int, stop: int) -> slice:
        return slice(*np.searchsorted(self._edges, [start, stop]).tolist())

    def _cuts(self, trained: Columns) -> tuple[int, ...]:
        """Returns the columns (first, one past the last, ...) of the leaves of a row.

        A leaf ends where the weight decay changes, and where blocks of another age begin: trained as often in each row.
        """
        inner = set(self._changes.tolist()) | self._unlike_ages()
        if trained.count < self._values.shape[1]:
            self._unlike = None  # these grow older than the others
        cuts: list[int] = []
        for start, stop in trained.spans:
            edges = [start, *sorted(edge for edge in inner if start < edge < stop), stop]
            cuts += [edge for pair in itertools.pairwise(edges) for edge in pair]
        return tuple(cuts)

    def _unlike_ages(self) -> set[int]:
        """Returns where blocks of another age begin; as long as all are trained, these stay."""
        if self._name != "adamw" or len(self._edges) == 1:
            return set()
        if self._ages is None:  # a GPU is asked once: from here on it is known how they grow
            ages = self._room["ages"]
            assert isinstance(ages, torch.Tensor)
            self._ages = ages.cpu().numpy().copy()
        if self._unlike is None:
            differ = (self._ages[:, 1:] != self._ages[:, :-1]).any(axis=0)
            self._unlike = set(self._edges[1:][differ].tolist())
        return self._unlike

    def _leaves_of(self, cuts: tuple[int, ...], members: NDArray[np.int64]) -> list[_Leaves]:
        """Returns the leaves of some rows, those of the same columns together.

        A leaf for each row: the last few entries of a leaf are rounded otherwise than whole vectors of them, so in a
        common one a client's bits would change with who is beside it.
        """
        key = (cuts, members.tobytes())
        if key not in self._leaves:
            if len(self._leaves) >= _MOST_KEPT:
                self._leaves.clear()
            spans = zip(cuts[::2], cuts[1::2], strict=True)
            self._leaves[key] = [self._views(members, start, stop) for start, stop in spans]
        return self._leaves[key]

    def _views(self, members: NDArray[np.int64], start: int, stop: int) -> _Leaves:
        found = _Leaves(float(self._weight_decay[start]), moments=[[] for _ in self._moments])
        block = int(np.searchsorted(self._edges, start))
        for row in members.tolist():
            found.values.append(self._values[row, start:stop])
            found.gradients.append(self._gradients[row, start:stop])
            for views, moment in zip(found.moments, self._moments, strict=True):
                array = self._room[moment]
                assert isinstance(array, torch.Tensor)
                views.append(array[row, start:stop])
            if self._name == "adamw":
                ages = self._room["ages"]
                assert isinstance(ages, torch.Tensor)
                found.ages.append(ages[row, block])
        return found

    def _update(self, parts: Sequence[_Leaves], rate: float) -> None:
        with torch.no_grad():
            for leaves in parts:
                if self._name == "adamw":
                    first, second = leaves.moments
                    adamw(
                        leaves.values, leaves.gradients, first, second, [], leaves.ages, fused=True, amsgrad=False,
                        beta1=_BETAS[0], beta2=_BETAS[1], eps=_EPS, lr=rate, weight_decay=leaves.weight_decay,
                        maximize=False,
                    )  # fmt: skip
                else:
                    momenta: list[Any] = leaves.moments[0] if leaves.moments else [None] * len(leaves.values)
                    sgd(
                        leaves.values, leaves.gradients, momenta, momentum=self._momentum, dampening=0.0,
                        nesterov=False, lr=rate, weight_decay=leaves.weight_decay, maximize=False,
                    )  # fmt: skip

    def _grow_older(self, cuts: tuple[int, ...], active: NDArray[np.bool_]) -> None:
        """Gives all blocks of a leaf the age that the step gave its first one."""
        ages = self._room["ages"]
        assert isinstance(ages, torch.Tensor)
        stepped = to_device(np.flatnonzero(active), ages.device)
        for start, stop in zip(cuts[::2], cuts[1::2], strict=True):
            blocks = self._blocks(start, stop)
            if self._ages is not None:
                self._ages[active, blocks] += 1
            if blocks.stop - blocks.start > 1:
                ages[stepped, blocks] = ages[stepped, blocks.start].unsqueeze(1)


def schedule_of(name: str, warmup: float, steps: int) -> Callable[[int], float]:
    """Returns what share of the peak the learning rate of each step is, by the step's number from 0 on.

    Args:
        name: One of `SCHEDULES`, as transformers has them.
        warmup: Share of the steps in which the rate rises to its peak.
        steps: In the whole run.
    """
    if name not in SCHEDULES:
        raise unknown_name("schedule", name, SCHEDULES)
    nothing = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = transformers.get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        nothing,
        num_warmup_steps=round(warmup * steps),
        num_training_steps=steps,
    )
    factor: Callable[[int], float] = scheduler.lr_lambdas[0]
    return factor
