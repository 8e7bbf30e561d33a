"""Dropout masks made on a GPU: the bits of the core, of whole sequences and of tokens of them."""

import numpy as np
import pytest
import torch

import cards
from declora import _bridge, cuda
from declora.errors import ModelError
from declora.model.dropout import row_masks, token_masks
from declora.model.owners import RowOwners
from declora.model.unpadded import unpad


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("inputs", [1, 48, 130])
def test_a_token_has_its_part_of_the_mask_of_its_sequence(rate, inputs):
    clients, samples = np.array([7, 2**32 - 1, 0], np.uint32), np.array([0, 5, 2**24 - 1], np.uint32)
    named = {"rate": rate, "seed": 2**63 + 12345, "step": 2**32 - 3}
    tokens = 9
    expected = np.empty((3, tokens * inputs), np.float32)
    _bridge.dropout_mask(expected, clients=clients, samples=samples, **named)
    rows, places = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 8, 3, 2, 7, 1])
    out = cards.on_card(np.zeros((len(rows), inputs), np.float32))
    cuda.dropout_mask(
        out,
        clients=cards.on_card(clients[rows].view(np.int32)),
        samples=cards.on_card(samples[rows].view(np.int32)),
        places=cards.on_card(places.astype(np.int32)),
        **named,
    )
    assert cards.same_bits(out, expected.reshape(3, tokens, inputs)[rows, places])
    assert inputs == 1 or rate in (0.0, 0.99) or len(torch.unique(out)) == 2


def test_rows_and_tokens_of_a_pass_have_the_masks_that_they_have_on_a_cpu(monkeypatch):
    owners, lengths = RowOwners(), np.array([3, 5, 2])
    rows = {"clients": np.array([4, 4, 9], np.uint32), "samples": np.array([0, 1, 0], np.uint32), "round": 7}
    found = []
    for device, kernels in ((torch.device("cpu"), False), (cards.DEVICE, True)):
        monkeypatch.setattr("declora.cuda.there", lambda where, kernels=kernels: kernels)
        tokens = unpad(lengths, list(np.arange(3)[:, None]), np.array([2, 1]), width=5, device=device).tokens
        with owners.computing(3, **rows):
            named = {"rate": 0.5, "seed": 11, "device": device}
            padded = row_masks(owners, (3, 5, 4), **named)
            found.append((padded, row_masks(owners, (2, 5, 4), **named), token_masks(owners, tokens, 4, **named)[0]))
    core, kernel = found
    count = lengths.sum()
    assert torch.equal(kernel[0].cpu(), core[0])
    assert torch.equal(kernel[1].cpu(), core[0][:2])
    assert torch.equal(kernel[2].cpu(), core[2][:count])
    assert torch.equal(core[2][:count], core[0][torch.arange(5) < torch.from_numpy(lengths).unsqueeze(1)])


def test_a_pass_that_does_not_say_whose_rows_it_has_is_refused():
    with RowOwners().computing(2), pytest.raises(ModelError, match="each row's client and sample"):
        row_masks(RowOwners(), (2, 3, 4), rate=0.5, seed=1, device=torch.device("cpu"))
