"""FedRot-LoRA: rotating a client's factors changes nothing that anybody learns of it."""

import pytest
import torch

from declora.methods.fedrot import rotation
from declora.model import Layout
from federations import federation_of, gossip_of, rows_of

CLIENTS, D, K, RANK = 5, 7, 6, 3


def layout():
    tensors = {"head.weight": torch.empty(2, 3)}
    for layer in "xy":
        tensors |= {f"{layer}.lora_A.weight": torch.empty(RANK, K), f"{layer}.lora_B.weight": torch.empty(D, RANK)}
    return Layout.of(tensors)


def orthogonal(seed):
    normal = torch.randn(RANK, RANK, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(normal)[0]


def turned(rows, of, client, seed):
    """The same clients, of whom one has factors in another gauge."""
    found = rows.clone()
    for b, a in of.pairs:
        turn = orthogonal(seed)
        of.view(found, b.name)[client] = of.view(rows, b.name)[client].double() @ turn
        of.view(found, a.name)[client] = turn.T @ of.view(rows, a.name)[client].double()
    return found


def products(rows, of):
    return torch.stack([of.view(rows, b.name).double() @ of.view(rows, a.name).double() for b, a in of.pairs], dim=1)


def mixed(start, of, method, topology="ring", rounds=1):
    alone, rows = gossip_of(federation_of(topology, clients=CLIENTS), start, method=method, layout=of), start.clone()
    for t in range(rounds):
        alone.round(t, rows)
    return rows


def test_the_rotation_is_the_one_that_was_made():
    turn, b, a = orthogonal(1), *(torch.randn(s, dtype=torch.float64) for s in ((D, RANK), (RANK, K)))
    torch.testing.assert_close(rotation(b @ turn.T, turn @ a, b, a), turn)
    found = rotation(torch.randn(D, RANK).double(), torch.randn(RANK, K).double(), b, a)
    torch.testing.assert_close(found @ found.T, torch.eye(RANK, dtype=torch.float64))


@pytest.mark.parametrize("client", [0, 3])
def test_rotating_a_clients_factors_changes_no_product(client):
    of, start = layout(), rows_of(CLIENTS, layout().columns)
    other = turned(start, of, client, seed=2)
    plain, again = (products(mixed(rows, of, "fedrot", rounds=3), of) for rows in (start, other))
    # Products of about 10, of float32 factors that are rounded in each round.
    torch.testing.assert_close(plain, again, atol=1e-4, rtol=0)
    plain, again = (products(mixed(rows, of, "dec-lora", rounds=3), of) for rows in (start, other))
    assert (plain - again).abs().max() > 0.1


def test_clients_that_learned_the_same_in_other_gauges_agree_and_lose_nothing():
    of, same = layout(), rows_of(1, layout().columns).expand(CLIENTS, -1)
    start = same.clone()
    for client in range(CLIENTS):
        start[client] = turned(same, of, client, seed=client)[client]
    expected = products(same, of)
    torch.testing.assert_close(products(mixed(start, of, "fedrot", "complete"), of), expected, atol=1e-4, rtol=0)
    lost = products(mixed(start, of, "dec-lora", "complete"), of)
    assert lost.norm() < 0.8 * expected.norm()


def test_where_all_have_one_gauge_and_head_it_is_plain_gossip_of_what_is_alike():
    """Small differences of one gauge: the nearest rotation is that of no more than their size, to the second order."""
    of = layout()
    centre = rows_of(1, of.columns)
    start = centre + 1e-4 * rows_of(CLIENTS, of.columns, seed=3)
    plain, rot = (mixed(start, of, method) for method in ("dec-lora", "fedrot"))
    assert torch.equal(plain[:, :6], rot[:, :6])  # the head
    torch.testing.assert_close(products(plain, of), products(rot, of), atol=1e-5, rtol=0)
