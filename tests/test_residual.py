"""FedEx-LoRA and FLoRA over a graph: what layers do is mixed exactly (V11), with what that costs."""

from functools import partial

import numpy as np
import pytest
import torch
from peft import PeftModel

from declora.model import Layout
from declora.topology import Topology
from federations import federation_of, gossip_of, rows_of
from tiny import tiny_bert

CLIENTS, D, K, RANK = 6, 6, 5, 2
FULL = K
"""The rank of a residual that has room for whatever D by K matrix."""


def layout(residual):
    tensors, rank = {"head.weight": torch.empty(2, 3)}, RANK + residual
    for layer in "xy":
        tensors |= {f"{layer}.lora_A.weight": torch.empty(rank, K), f"{layer}.lora_B.weight": torch.empty(D, rank)}
    return Layout.of(tensors)


def products(rows, of, first=0, last=None):
    """What the components from `first` on do, float64 `[clients, layers, d, k]`."""
    pairs = [(of.view(rows, b.name).double(), of.view(rows, a.name).double()) for b, a in of.pairs]
    return torch.stack([b[:, :, first:last] @ a[:, first:last] for b, a in pairs], dim=1)


def gossip(method, residual, *, gamma=1.0, topology="ring", codec="none", same_a=False):
    of, federation = layout(residual), federation_of(topology, clients=CLIENTS, codec=codec)
    alone = gossip_of(federation, torch.zeros(CLIENTS, of.columns), method=f"{method}:residual={residual}", layout=of,
                      gamma=gamma)  # fmt: skip
    alone.method.arrange(federation)
    rows = rows_of(CLIENTS, of.columns)
    if same_a:
        for _, a in of.pairs:
            of.view(rows, a.name)[:] = of.view(rows, a.name)[0]
    return alone, rows, of


@pytest.mark.parametrize("method", ["fedex-lora", "flora"])
@pytest.mark.parametrize(("codec", "gamma"), [("none", 1.0), ("q4", 0.6)])
def test_what_layers_do_is_mixed_exactly(method, codec, gamma):
    alone, rows, of = gossip(method, FULL, codec=codec, gamma=gamma)
    w = torch.from_numpy(Topology.build("ring", CLIENTS).weights(0).toarray())
    for t in range(3):
        own = products(rows, of)
        heard = products(torch.from_numpy(alone.round(t, rows).public()), of)
        expected = own + gamma * (torch.einsum("ij,jldk->ildk", w, heard) - heard)
        # Entries below 50 of products of a few float32 numbers each.
        torch.testing.assert_close(products(rows, of), expected, atol=2e-4, rtol=0)


def test_the_factors_of_fedex_are_the_means_of_dec_lora():
    alone, rows, of = gossip("fedex-lora", FULL)
    plain, mixed = gossip_of(federation_of(clients=CLIENTS), rows, layout=of), rows.clone()
    plain.round(0, mixed)
    alone.round(0, rows)
    for b, a in of.pairs:
        assert torch.equal(of.view(rows, b.name)[:, :, :RANK], of.view(mixed, b.name)[:, :, :RANK])
        assert torch.equal(of.view(rows, a.name)[:, :RANK], of.view(mixed, a.name)[:, :RANK])
    assert torch.equal(rows[:, :6], mixed[:, :6])


def test_fedex_has_no_residual_where_all_have_the_same_a():
    alone, rows, of = gossip("fedex-lora", FULL, same_a=True)
    for b, a in of.pairs:
        of.view(rows, b.name)[:, :, RANK:] = of.view(rows, a.name)[:, RANK:] = 0.0
    alone.round(0, rows)
    assert products(rows, of, RANK).abs().max() < 1e-5


def test_on_a_complete_graph_all_have_the_same_residual():
    alone, rows, of = gossip("fedex-lora", FULL, topology="complete")
    alone.round(0, rows)
    residuals = products(rows, of, RANK)
    # But for the rounding to float32 of means of entries of about 3, which begins at each client's own.
    torch.testing.assert_close(residuals, residuals[:1].expand_as(residuals), atol=1e-5, rtol=0)
    assert residuals.abs().max() > 0.1


def test_flora_begins_anew_with_the_same_a_for_all_and_another_in_each_round():
    alone, rows, of = gossip("flora", FULL)
    drawn = []
    for t in range(2):
        alone.round(t, rows)
        assert not products(rows, of, 0, RANK).any()
        drawn.append([of.view(rows, a.name)[:, :RANK].clone() for _, a in of.pairs])
        for a in drawn[-1]:
            assert torch.equal(a, a[:1].expand_as(a))
            assert 0.5 * K**-0.5 < a.abs().max() <= K**-0.5
    assert not torch.equal(drawn[0][0], drawn[1][0])


@pytest.mark.parametrize("method", ["fedex-lora", "flora"])
def test_what_is_cut_is_added_in_the_next_round(method):
    """Rank 2 + 3 is full, so what is kept and what was cut are together what is right: nothing is ever lost."""
    alone, rows, of = gossip(method, 3)
    w = torch.from_numpy(Topology.build("ring", CLIENTS).weights(0).toarray())
    cut, lost = torch.zeros(CLIENTS, 2, D, K, dtype=torch.float64), []
    for t in range(3):
        expected = torch.einsum("ij,jldk->ildk", w, products(rows, of)) + cut
        alone.round(t, rows)
        cut = products(alone.state.room(method)["cut"], of)
        torch.testing.assert_close(products(rows, of) + cut, expected, atol=2e-4, rtol=0)
        lost.append(float(cut.norm()))
    assert lost[0] > 0.1
    tail = torch.linalg.svdvals(products(rows, of, RANK) + cut)[..., 3:].norm(dim=-1)  # of the best of rank 3
    torch.testing.assert_close(torch.linalg.matrix_norm(cut), tail, atol=1e-3, rtol=0)


@pytest.fixture
def run(tiny_run):
    return partial(tiny_run, lora={"r": 2, "lora_alpha": 8, "target_modules": ["query", "value"]}, warmup=0.0)


@pytest.mark.parametrize("method", ["fedex-lora:residual=3", "flora:residual=3"])
def test_local_steps_leave_the_residual_alone(run, method):
    """Weight decay, too: without gossip there is never a residual, and with it only gossip moves it."""
    result = run(method=f"{method}+local", weight_decay=0.1)
    for client in range(4):
        assert not products(result.client(client).row[None], result.average.layout, 2).any()
    assert products(run(method=method, weight_decay=0.1).client(0).row[None], result.average.layout, 2).any()


def test_adapters_are_saved_at_the_higher_rank_and_the_same_scale(run, tmp_path):
    result = run(method="fedex-lora:residual=3", out=str(tmp_path / "run"))
    adapter = result.client(1)
    assert (adapter.config.r, adapter.config.lora_alpha) == (5, 20)
    assert any("sends 3 components of each layer beside" in note for note in result.notes)
    loaded = PeftModel.from_pretrained(tiny_bert(), adapter.save_pretrained(tmp_path / "one"))
    b, a = result.average.layout.pairs[0]
    layer = next(m for n, m in loaded.named_modules() if n.endswith("layer.0.attention.self.query"))
    of = result.average.layout
    expected = 4 * of.view(adapter.row[None], b.name)[0] @ of.view(adapter.row[None], a.name)[0]
    np.testing.assert_allclose(layer.get_delta_weight("default").detach(), expected, atol=1e-6)


def test_messages_have_the_components_of_the_residual(run):
    plain, wide = (run(method=method) for method in ("dec-lora", "fedex-lora:residual=2"))
    of = plain.average.layout
    factors = of.size("A") + of.size("B")
    assert wide.history["bytes_sent"].iloc[0] - plain.history["bytes_sent"].iloc[0] == 4 * 2 * 4 * factors
