"""The consensus distance of products: of the core, of torch on a card, and as a run logs it."""

import numpy as np
import pytest
import torch

import declora
from declora import cuda, means
from declora.model.layout import Layout
from tiny import tiny_bert

SCALINGS = np.array([0.5, 2.0])


def layout_of(rank, d, k):
    shapes = {
        "0.lora_A.weight": (rank, k), "0.lora_B.weight": (d, rank), "1.lora_A.weight": (rank, d),
        "1.lora_B.weight": (k, rank), "head": (3,),
    }  # fmt: skip
    return Layout.of({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})


def dense(layout, rows, scalings):
    """The definition, from dense products in float64; and the mean square of the products."""
    distance = size = 0.0
    for (b, a), scaling in zip(layout.pairs, scalings, strict=True):
        products = scaling * layout.view(rows, b.name).double() @ layout.view(rows, a.name).double()
        distance += float((products - products.mean(0)).square().sum()) / len(rows)
        size += float(products.square().sum()) / len(rows)
    return distance**0.5, size


@pytest.mark.parametrize("distance", [means.product_distance, lambda x, c, *more: cuda.product_distance(x, *more, c)])
@pytest.mark.parametrize(("clients", "rank", "d", "k"), [(1, 2, 5, 7), (4, 3, 12, 40), (50, 4, 17, 9)])
def test_it_is_that_of_dense_products(distance, clients, rank, d, k):
    layout = layout_of(rank, d, k)
    rows = torch.randn(clients + 1, layout.columns, generator=torch.Generator().manual_seed(1))
    some = [client for client in range(clients + 1) if client != 1]
    expected, size = dense(layout, rows[some], SCALINGS)
    found = distance(rows, some, layout.factors, SCALINGS)
    # Squares of sums of some thousand terms of about the size of the products.
    assert abs(found**2 - expected**2) < 1e4 * np.finfo(float).eps * size


@pytest.mark.parametrize("distance", [means.product_distance, lambda x, c, *more: cuda.product_distance(x, *more, c)])
def test_coordinates_of_factors_do_not_count(distance):
    """Clients whose products are equal have none, however far their factors are apart; powers of 2 round nothing."""
    layout = layout_of(4, 30, 20)
    row = torch.randn(layout.columns, generator=torch.Generator().manual_seed(2))
    rows = row.repeat(3, 1)
    for client, times in enumerate((1.0, 4.0, 0.5)):
        for b, a in layout.pairs:
            layout.view(rows, b.name)[client] *= times
            layout.view(rows, a.name)[client] /= times
    size = dense(layout, rows, SCALINGS)[1]
    assert means.consensus_distance(rows, range(3)) > 1
    # The deviations are some times as large as the factors, and the root of an epsilon is what is left of them.
    assert distance(rows, range(3), layout.factors, SCALINGS) < (1e4 * np.finfo(float).eps * size) ** 0.5
    assert distance(rows[:0], [], layout.factors, SCALINGS) == 0


def test_a_run_logs_it_with_the_scale_of_its_lora_in_evaluated_rounds(texts, tokenizer):
    result = declora.simulate(
        model=tiny_bert(), tokenizer=tokenizer, data=texts, clients=4, rounds=3, local_steps=2, batch_size=4,
        eval_every=2, learning_rate=1e-2, lora={"r": 2, "lora_alpha": 6, "target_modules": ["query", "value"]},
    )  # fmt: skip
    history = result.history["product_distance"]
    assert history.notna().tolist() == [False, True, True]
    rows = torch.stack([result.client(client).row for client in range(4)])
    expected, _ = dense(result._outcome.layout, rows, np.full(4, 3.0))
    assert history.iloc[-1] == pytest.approx(expected, rel=1e-9)
    assert expected > 0


def test_one_client_or_one_common_adapter_has_none(texts, tokenizer):
    settings = {"model": tiny_bert(), "tokenizer": tokenizer, "data": texts, "clients": 4, "rounds": 1, "codec": "none"}
    for more in ({"method": "centralized"}, {"topology": "complete", "weights": "uniform"}):
        distance = declora.simulate(**settings, **more, lora={"r": 2}).history["product_distance"].iloc[-1]
        assert distance == 0.0  # rows of a complete graph are equal, bit for bit


def test_of_all_clients_nothing_is_copied_on_a_card(monkeypatch):
    rows, given = torch.zeros(3, 5), []
    monkeypatch.setattr(cuda, "there", lambda device: True)
    monkeypatch.setattr(cuda, "product_distance", lambda x, *more: given.append(x) or 0.0)
    for clients in (range(3), [0, 2]):
        means.product_distance(rows, clients, layout_of(1, 1, 1).factors, SCALINGS)
    assert given[0] is rows
    assert len(given[1]) == 2
