"""One optimizer for all clients: a handful of whole-matrix operations on P and G."""

import torch
import transformers

from declora.errors import unknown_name

__all__ = ["OPTIMIZERS", "SCHEDULES", "ClientOptimizer"]

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("linear", "cosine", "constant")


class ClientOptimizer:
    """AdamW (arXiv 1711.05101) or SGD on every row of P at once, with a schedule and per-client clipping.

    Both are elementwise, so each client's row is updated exactly as an optimizer of its own would.
    """

    def __init__(
        self,
        values: torch.Tensor,
        gradients: torch.Tensor,
        *,
        name: str,
        learning_rate: float,
        weight_decay: float,
        momentum: float,
        schedule: str,
        warmup: float,
        steps: int,
        clip_norm: float | None,
    ) -> None:
        """Takes P and G `[clients, D]`, `steps` = local steps of the whole run, `warmup` = its share of them."""
        if name not in OPTIMIZERS:
            raise unknown_name("optimizer", name, OPTIMIZERS)
        if schedule not in SCHEDULES:
            raise unknown_name("schedule", schedule, SCHEDULES)
        self._gradients = gradients
        self._clip_norm = clip_norm
        self._parameter = torch.nn.Parameter(values)  # shares storage with P
        self._parameter.grad = gradients
        self._optimizer: torch.optim.Optimizer
        if name == "adamw":
            self._optimizer = torch.optim.AdamW(
                [self._parameter], lr=learning_rate, weight_decay=weight_decay, fused=True
            )
        else:
            self._optimizer = torch.optim.SGD(
                [self._parameter], lr=learning_rate, weight_decay=weight_decay, momentum=momentum
            )
        self._scheduler = transformers.get_scheduler(
            schedule if schedule != "constant" or not warmup else "constant_with_warmup",
            self._optimizer,
            num_warmup_steps=round(warmup * steps),
            num_training_steps=steps,
        )

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        return float(self._optimizer.param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Clears G in place (it must stay the matrix that the leaves' `.grad` are views of)."""
        self._gradients.zero_()

    def gradient_norms(self) -> torch.Tensor:
        """Returns each client's gradient norm, float32 `[clients]`, before clipping."""
        norms: torch.Tensor = torch.linalg.vector_norm(self._gradients, dim=1)
        return norms

    def step(self, norms: torch.Tensor) -> None:
        """Clips each client's gradient to `clip_norm`, updates P, and moves the schedule on by one."""
        if self._clip_norm is not None:
            # The same factor as torch.nn.utils.clip_grad_norm_, for each row.
            self._gradients.mul_((self._clip_norm / (norms + 1e-6)).clamp(max=1.0).unsqueeze(1))
        self._optimizer.step()
        self._scheduler.step()

    def reset_moments(self) -> None:
        """Forgets momentum and second moments; the schedule goes on."""
        self._optimizer.state.clear()
