"""The optimizer of all clients: each row as torch would move it alone, at the rate that its schedule says."""

import numpy as np
import pytest
import torch
import transformers

from declora.errors import ConfigError
from declora.plan import Columns
from declora.train.optimizer import ClientOptimizer

PLAIN = {
    "name": "sgd", "learning_rate": 1.0, "momentum": 0.0, "schedule": "constant", "warmup": 0.0, "clip_norm": None,
}  # fmt: skip


class Counting(ClientOptimizer):
    """An optimizer that counts the steps which each client has taken, and so knows the rates of the next."""

    def __init__(self, values, gradients, *, steps, **settings):
        super().__init__(values, gradients, steps=steps, **settings)
        self.done = np.zeros(len(steps), dtype=np.int64)

    @property
    def learning_rate(self):
        return self.rates(self.done).max()

    def step(self, norms, active, trained=None):
        super().step(norms, active, self.rates(self.done), trained)
        self.done += active


def descend(steps, columns=1, **settings):
    """An optimizer of rows that start at 0, plain SGD where nothing else is said; returns it, P and G."""
    values, gradients = torch.zeros(len(steps), columns), torch.zeros(len(steps), columns)
    settings = {**PLAIN, "weight_decay": np.zeros(columns), **settings}
    return Counting(values, gradients, steps=np.array(steps), **settings), values, gradients


def rates(schedule, warmup, steps):
    """The definition of each schedule: a share of the peak for each step."""
    rising = round(warmup * steps)
    after = {
        "linear": lambda share: 1 - share,
        "cosine": lambda share: 0.5 * (1 + np.cos(np.pi * share)),
        "constant": lambda share: 1.0,
    }[schedule]
    return [t / rising if t < rising else after((t - rising) / (steps - rising)) for t in range(steps)]


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_a_step_is_as_long_as_its_schedule_says(schedule, warmup):
    """SGD under a gradient of 1 goes down by the rate itself. (A warm-up of one step begins with a rate of 0.)"""
    optimizer, values, gradients = descend([10], learning_rate=0.5, schedule=schedule, warmup=warmup)
    for expected in rates(schedule, warmup, 10):
        before = values.clone()
        assert optimizer.learning_rate == pytest.approx(0.5 * expected, abs=1e-12)
        gradients.fill_(1.0)
        optimizer.step(optimizer.gradient_norms(), np.array([True]))
        assert (before - values).item() == pytest.approx(0.5 * expected, abs=1e-6)


def test_the_rate_that_is_shown_is_the_highest_of_all_clients():
    optimizer, _, gradients = descend([2, 5, 3], schedule="linear")
    for step in range(5):
        assert optimizer.learning_rate == pytest.approx(1 - step / 5)
        gradients.fill_(1.0)
        optimizer.step(optimizer.gradient_norms(), step < np.array([2, 5, 3]))


def test_each_client_is_clipped_by_its_own_norm_and_a_small_gradient_not_at_all():
    optimizer, values, gradients = descend([1, 1, 1], columns=2, clip_norm=1.0)
    gradients.copy_(torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]))
    norms = optimizer.gradient_norms()
    assert norms.tolist() == pytest.approx([5.0, 0.5, 0.0])
    optimizer.step(norms, np.ones(3, dtype=bool))
    expected = torch.tensor([[-0.6, -0.8], [-0.3, -0.4], [0.0, 0.0]])
    torch.testing.assert_close(values, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("norm", [1e-8, 1e-6, 2e-6, 1e-3, 3.0])
def test_a_gradient_is_clipped_by_torchs_own_factor(norm):
    """The factor's denominator has 1e-6 beside the norm, which counts where both are as small."""
    optimizer, values, gradients = descend([1], columns=2, clip_norm=1e-6)
    gradients.copy_(torch.tensor([[0.6, 0.8]]) * norm)
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = gradients[0].clone()
    torch.nn.utils.clip_grad_norm_([parameter], 1e-6)
    optimizer.step(optimizer.gradient_norms(), np.array([True]))
    torch.testing.assert_close(-values[0], parameter.grad, atol=0, rtol=1e-6)


def test_without_its_moments_a_step_is_a_first_step_and_the_schedule_goes_on():
    """With momentum m and gradients of 1, the second step is 1 + m times its rate, and 1 time it after a reset."""
    for reset, lengths in ((False, [1.0, 1.5 * 0.75]), (True, [1.0, 0.75])):
        optimizer, values, gradients = descend([4], momentum=0.5, schedule="linear")
        for length in lengths:
            before = values.clone()
            if reset:
                optimizer.reset_moments()
            gradients.fill_(1.0)
            optimizer.step(optimizer.gradient_norms(), np.array([True]))
            assert (before - values).item() == pytest.approx(length)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_columns_decay_each_by_their_own_share(name):
    """Without a gradient a step of either takes rate x decay of a value (AdamW decoupled, SGD as its only gradient)."""
    decay = np.array([0.0, 0.5, 0.5, 0.0, 0.25])
    optimizer, values, gradients = descend([1, 1], columns=5, name=name, learning_rate=0.1, weight_decay=decay)
    values.fill_(2.0)
    gradients.fill_(0.0)
    optimizer.step(optimizer.gradient_norms(), np.array([True, True]))
    torch.testing.assert_close(values, torch.from_numpy(2.0 * (1 - 0.1 * decay)).float().expand(2, 5))


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"optimizer='adam' is not known\. Did you mean 'adamw'"):
        descend([1], name="adam")
    with pytest.raises(ConfigError, match=r"schedule='cosin' is not known\. Did you mean 'cosine'"):
        descend([1], schedule="cosin")


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_optimizer_moves_only_the_rows_that_step_each_on_its_own_schedule(name):
    """Against torch's own optimizer and schedule for each row; weight decay and momentum would move a row at rest."""
    steps, columns = np.array([3, 1, 3, 2, 1]), 37
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(5, columns, generator=draw)
    decay = np.full(columns, 0.3)
    settings = {"learning_rate": 0.1, "weight_decay": decay, "schedule": "linear", "warmup": 0.5, "momentum": 0.9}
    rows = [torch.nn.Parameter(row.clone()) for row in values]
    make = {
        "adamw": lambda row: torch.optim.AdamW([row], lr=0.1, weight_decay=0.3, fused=True),
        "sgd": lambda row: torch.optim.SGD([row], lr=0.1, weight_decay=0.3, momentum=0.9),
    }[name]
    optimizers = [make(row) for row in rows]
    schedules = [
        transformers.get_scheduler("linear", o, num_warmup_steps=round(0.5 * n * 2), num_training_steps=int(n) * 2)
        for o, n in zip(optimizers, steps, strict=True)
    ]
    gradients = torch.zeros_like(values)
    ours = Counting(values, gradients, name=name, steps=2 * steps, clip_norm=None, **settings)
    for _ in range(2):
        for step in range(3):
            active = steps > step
            gradients.copy_(torch.randn(5, columns, generator=draw))
            for i in np.flatnonzero(active):
                rows[i].grad = gradients[i].clone()
                optimizers[i].step()
                schedules[i].step()
            before = values.clone()
            ours.step(ours.gradient_norms(), active)
            assert torch.equal(values[~active], before[~active])
            assert torch.equal(values, torch.stack([row.detach() for row in rows]))


@pytest.mark.parametrize("columns", [1, 3, 8, 37])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_client_is_updated_to_the_same_bits_whoever_is_beside_it(name, columns):
    """The entries after the last whole vector of a row round otherwise than vectors: they must be the same ones."""
    draw = torch.Generator().manual_seed(columns)
    values, steps = torch.randn(7, columns, generator=draw), torch.randn(9, 7, columns, generator=draw)
    decay = np.where(np.arange(columns) % 5 < 3, 0.3, 0.0)
    settings = {"learning_rate": 0.1, "weight_decay": decay, "schedule": "cosine", "warmup": 0.2, "momentum": 0.9}

    def trained(rows):
        own, gradients = values[rows].clone(), torch.zeros(len(rows), columns)
        optimizer = Counting(own, gradients, name=name, steps=np.full(len(rows), len(steps)), clip_norm=0.5, **settings)
        for step in steps:
            gradients.copy_(step[rows])
            optimizer.step(optimizer.gradient_norms(), np.ones(len(rows), dtype=bool))
        return own

    together = trained(range(7))
    for rows in ([0], [0, 1, 2], [3, 4], [6]):
        assert torch.equal(trained(rows), together[rows])


def test_how_old_blocks_are_is_known_without_asking_a_gpu_again():
    """Whoever steps, with whichever blocks: leaves are cut where blocks of another age begin."""
    columns, draw = 6, np.random.default_rng(0)
    room, settings = {}, {**PLAIN, "name": "adamw", "weight_decay": np.zeros(columns)}
    values, gradients = torch.zeros(3, columns), torch.ones(3, columns)
    optimizer = ClientOptimizer(values, gradients, steps=np.full(3, 9), edges=(0, 2, 3), room=room, **settings)
    for spans in ([(0, 6)], [(2, 6)], [(2, 6)], [(0, 2)], [(0, 6)], [(0, 2), (3, 6)], [(0, 6)]):
        active = draw.random(3) < 0.7
        optimizer.step(optimizer.gradient_norms(), active, np.full(3, 0.1), Columns.of(columns, spans))
        np.testing.assert_array_equal(optimizer._ages, room["ages"])
    optimizer.reset_moments(Columns.of(columns, [(2, 3)]))
    np.testing.assert_array_equal(optimizer._ages, room["ages"])
    assert len(np.unique(room["ages"])) > 2
