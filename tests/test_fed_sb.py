"""Fed-SB: only r x r numbers of a layer are trained and sent, and averaging them is exact."""

import numpy as np
import pytest
import torch

import declora
from declora.errors import ConfigError
from declora.methods import Step, build_method
from declora.model import Layout
from declora.plan import Plan
from declora.state import State
from federations import federation_of
from tiny import tiny_bert, tiny_texts

D, K, RANK, CLIENTS = 7, 5, 3, 4


def layout(rank=RANK):
    tensors = {}
    for layer in "xy":
        tensors |= {f"{layer}.lora_A.weight": torch.empty(rank, K), f"{layer}.lora_B.weight": torch.empty(D, rank)}
    return Layout.of({**tensors, "head.weight": torch.empty(2, 3)})


def begun(of=None):
    of = of or layout()
    method = build_method("fed-sb")
    method.arrange(federation_of(clients=CLIENTS))
    state = State(torch.randn(CLIENTS, of.columns, generator=torch.Generator().manual_seed(0)))
    method.begin(state, of)
    plan = method.plan(Plan.of_clients(of.columns, np.ones(CLIENTS, dtype=np.int64)), of)
    return method, state, of, plan


def test_the_fixed_factors_are_orthonormal_and_the_same_for_all():
    _, state, of, _ = begun()
    for b, a in of.pairs:
        of_a = of.view(state.adapter, a.name)
        assert torch.equal(of_a, of_a[:1].expand_as(of_a))
        torch.testing.assert_close(of_a[0] @ of_a[0].T, torch.eye(RANK))
        assert not of.view(state.adapter, b.name).any()


def test_a_message_has_r_squared_numbers_of_a_layer_and_the_head():
    method, _, of, plan = begun()
    assert plan.sent.count == plan.sent.width == method.lifted(of).columns == 2 * RANK**2 + 6
    assert plan.phases[0].trained == of.of_kinds("B", "head")


def test_the_gradient_of_r_is_that_of_b_r_seen_through_b():
    """d loss(B R) / d R = B^T G, at the point B R A, and nothing else of B's place moves."""
    method, state, of, plan = begun()
    core = state.room("fed-sb")["core"]
    core.normal_(generator=torch.Generator().manual_seed(1))
    head = state.adapter[:, of["head.weight"].start :].clone()
    method.before_round(state, plan)
    gradients = torch.randn(CLIENTS, of.columns, generator=torch.Generator().manual_seed(2))
    step, seen = Step(plan, plan.phases[0], 0, torch.zeros_like(gradients), torch.ones(CLIENTS)), []

    def compute():
        seen.append(state.adapter.clone())
        step.gradients.copy_(gradients)
        return torch.zeros(CLIENTS)

    method.gradient(compute, state, step)
    method.after_round(state, plan, None)
    for layer, (b, _) in enumerate(of.pairs):
        whole = of.view(seen[0], b.name)
        left = torch.linalg.lstsq(core[0, layer].T.double(), whole[0].T.double()).solution.T  # B, of B R
        torch.testing.assert_close(left.T @ left, torch.eye(RANK, dtype=torch.float64), atol=1e-5, rtol=0)
        torch.testing.assert_close(whole.double(), left @ core[:, layer].double(), atol=1e-5, rtol=0)
        found = of.view(step.gradients, b.name)
        expected = left.T @ of.view(gradients, b.name).double()
        torch.testing.assert_close(found[:, :RANK].double(), expected, atol=1e-5, rtol=0)
        assert not found[:, RANK:].any()
        torch.testing.assert_close(of.view(state.adapter, b.name), whole)  # what is exported
    assert torch.equal(state.adapter[:, of["head.weight"].start :], head)


@pytest.fixture
def result(tokenizer):
    return declora.simulate(
        model=tiny_bert(), tokenizer=tokenizer, data=tiny_texts(64), clients=CLIENTS, rounds=3, local_steps=2,
        batch_size=4, codec="none", client_eval_samples=0, progress=False, method="fed-sb", warmup=0.0,
        lora={"r": 4, "target_modules": ["query", "value"]},
    )  # fmt: skip


def test_the_mean_of_the_products_is_the_product_of_the_mean(result):
    of = result.average.layout
    rows = torch.stack([result.client(client).row for client in range(CLIENTS)])
    mean = result.average.row[None]
    for b, a in of.pairs:
        products = of.view(rows, b.name).double() @ of.view(rows, a.name).double()
        assert products.norm() > 1e-3
        expected = of.view(mean, b.name).double() @ of.view(mean, a.name).double()
        # B R of each client, and their mean, were rounded to float32.
        torch.testing.assert_close(products.mean(0), expected[0], atol=2e-7, rtol=0)
        assert (of.view(rows, a.name) == of.view(rows, a.name)[0]).all()


def test_messages_are_tiny_whatever_the_layers_width(result):
    of = result.average.layout
    numbers = 16 * len(of.pairs) + of.size("head")
    assert result.history["bytes_sent"].tolist() == [CLIENTS * 2 * (96 + 4 * numbers)] * 3


def test_a_rank_above_a_layers_width_is_refused():
    of = layout(rank=6)
    plan = Plan.of_clients(of.columns, np.ones(CLIENTS, dtype=np.int64))
    with pytest.raises(ConfigError, match=r"rank 6 is above the width of x, which is 7 by 5. Lower lora.r to 5"):
        build_method("fed-sb").plan(plan, of)


def test_ranks_that_are_unlike_are_refused_for_clients_and_for_layers(tiny_run):
    with pytest.raises(
        ConfigError, match=r"ranks=\[1, 2, 2, 1\]: method='fed-sb' averages one r x r matrix of a layer"
    ):
        tiny_run(method="fed-sb", ranks=[1, 2, 2, 1])
    lora = {"r": 2, "target_modules": ["query", "value"], "rank_pattern": {"value": 1}}
    with pytest.raises(ConfigError, match=r"method='fed-sb' needs one rank of all layers, but lora\.rank_pattern"):
        tiny_run(method="fed-sb", lora=lora)
