"""Frozen linear layers: what they compute, which layers they replace, and that these come back."""

import numpy as np
import peft
import pytest
import torch
import transformers
from torch import nn

from declora.model import frozen
from declora.model.frozen import FrozenLinear, product_rows
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from tiny import tiny_bert, tiny_gpt2

pytestmark = pytest.mark.skipif(not frozen._available(), reason="this torch has no oneDNN product for x86-64")

LAYERS = {
    "linear": lambda: nn.Linear(24, 40),
    "without bias": lambda: nn.Linear(24, 40, bias=False),
    "Conv1D": lambda: transformers.Conv1D(40, 24),
}


def layer_of(kind):
    torch.manual_seed(0)
    return LAYERS[kind]().eval().requires_grad_(False)


def inputs(*shape):
    return torch.from_numpy(np.random.default_rng(1).standard_normal(shape, np.float32))


INPUTS = {
    "tokens": lambda: inputs(30, 24),
    "as many as a product is made for": lambda: inputs(32, 24),
    "rows of tokens": lambda: inputs(2, 5, 24),
    "one vector": lambda: inputs(1, 24),
    "nothing": lambda: inputs(0, 5, 24),
    "a transposed view": lambda: inputs(24, 30).t(),
    "every other token": lambda: inputs(60, 24)[::2],
}


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_frozen_layer_computes_what_its_base_does_and_the_gradient_of_its_input(kind, given):
    layer, x = layer_of(kind), INPUTS[given]()
    fast = FrozenLinear(layer)
    # A sum of 24 products (40 in the gradient) in another order: 40 * 2^-24 of the sum of magnitudes, below 100.
    close = {"rtol": 0.0, "atol": 40 * 2.0**-24 * 100}
    torch.testing.assert_close(fast(x), layer(x), **close)
    found, wanted = (x.clone().requires_grad_(), x.clone().requires_grad_())
    result = fast(found)
    weights = inputs(*result.shape)
    (result * weights).sum().backward()
    (layer(wanted) * weights).sum().backward()
    torch.testing.assert_close(found.grad, wanted.grad, **close)
    assert result.requires_grad
    assert layer.weight.grad is None


@pytest.mark.parametrize("given", ["tokens", "as many as a product is made for", "rows of tokens"])
def test_what_a_frozen_layer_returns_may_be_changed_in_place_as_what_its_base_does(given):
    """Longformer divides its queries so."""
    layer, x = layer_of("linear"), INPUTS[given]()
    gradients = []
    for module in (FrozenLinear(layer), layer):
        leaf = x.clone().requires_grad_()
        result = module(leaf)
        result /= 4.0
        result.square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=0.0, atol=40 * 2.0**-24 * 100)


def test_products_are_made_for_few_numbers_of_rows():
    rows = np.arange(1, 5000)
    sizes = np.array([product_rows(count) for count in rows.tolist()])
    step = 2.0 ** np.ceil(np.log2(rows) / 2)  # the power of two that the root of `rows` does not exceed
    assert np.array_equal(sizes, np.ceil(rows / step) * step)
    assert len(set(sizes[(rows > 512) & (rows <= 1024)])) == 16
    assert product_rows(0) == 0


def test_the_number_of_threads_does_not_show():
    layer, x = FrozenLinear(nn.Linear(384, 384).requires_grad_(False)), inputs(300, 384).requires_grad_()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            result = layer(x)
            results.append((result.detach(), *torch.autograd.grad(result.square().sum(), x)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


class _Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def _hooked(register):
    layer = nn.Linear(3, 4)
    getattr(layer, register)(lambda *_: None)
    return layer


def _patched():
    layer = nn.Linear(3, 4)
    layer.forward = lambda x: x  # what accelerate does to a layer that it moves about
    return layer


@pytest.mark.parametrize(
    ("layer", "replaced"),
    [
        (nn.Linear(3, 4), True),
        (transformers.Conv1D(4, 3), True),
        (nn.Linear(3, 4, dtype=torch.bfloat16), False),
        (nn.Linear(3, 4, device="meta"), False),
        (_Scaled(3, 4), False),
        (nn.Embedding(3, 4), False),
        (_hooked("register_forward_hook"), False),
        (_hooked("register_forward_pre_hook"), False),
        (_patched(), False),
    ],
)
def test_layers_of_another_kind_stay(layer, replaced):
    assert FrozenLinear.replaces(layer) is replaced


def test_whoever_turns_onednn_off_keeps_the_layers():
    with torch.backends.mkldnn.flags(enabled=False):
        assert not FrozenLinear.replaces(nn.Linear(3, 4))


@pytest.mark.parametrize(
    ("model", "targets", "task"), [(tiny_bert, ["query"], "SEQ_CLS"), (tiny_gpt2, ["c_attn"], "CAUSAL_LM")]
)
def test_surgery_replaces_every_frozen_linear_layer_and_gives_them_back(model, targets, task):
    model = model()
    before = dict(model.named_modules())
    config = peft.LoraConfig(r=2, target_modules=targets, task_type=task)
    surgery = Surgery(model, config, RowOwners(), seed=0)
    kinds = [type(module) for module in model.modules()]
    linear = sum(FrozenLinear.replaces(module) for module in before.values())
    heads = sum(slot.attribute == "weight" for slot in surgery.slots)
    assert kinds.count(FrozenLinear) == linear - heads > 5
    assert nn.Linear not in kinds
    assert transformers.Conv1D not in kinds
    surgery.undo()
    after = dict(model.named_modules())
    assert after.keys() == before.keys()
    assert all(after[name] is module for name, module in before.items())
