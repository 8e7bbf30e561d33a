"""How many clients a GPU has memory for: by the memory of a step of one client and of two."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from declora.errors import TrainingError
from declora.model import AdapterBank
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.train.grouping import find_groups
from declora.train.probe import clients_that_fit
from declora.train.sharing import Sharing
from test_train import tokens_of
from test_unpad import lora_of
from tiny import tiny_bert

FIXED, EACH = 1000, 50


class Counted:
    """A memory in which a step takes so much and more for each token: told by the embeddings that it computes."""

    def __init__(self, model, free, most=None):
        self.free, self._most = lambda: free, most
        self._tokens = 0
        model.get_input_embeddings().register_forward_hook(self._count)

    def _count(self, module, args, output):
        self._tokens += output.shape[0] * output.shape[1]

    def taken(self, step):
        self._tokens = 0
        step()
        taken = FIXED + EACH * self._tokens
        return None if self._most is not None and taken > self._most else taken


def fitting(tokenizer, budget, *, clients=50, batch_size=4, **options):
    """Of a share of 0.85 of what is free, `budget` is left beside the rows of all clients but one."""
    model, owners, tokens = tiny_bert(), RowOwners(), tokens_of(tokenizer, "classification")
    surgery = Surgery(model, lora_of(["query"]), owners, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, owners)
    bank.fill(surgery.initial, 1, torch.device("cpu"))
    rows = (clients - 1) * surgery.layout.columns * 24
    memory = Counted(model, (budget + rows) / 0.85 + 1, **options)
    found = clients_that_fit(
        model, bank, tokens, Sharing(True), clients=clients, batch_size=batch_size, base_dropout=False, memory=memory
    )
    surgery.undo()
    return found, tokens.lengths


@pytest.mark.parametrize("tokens", [500, 1000, 2000])
def test_a_group_has_room_for_its_tokens_in_nearly_every_step(tokenizer, tokens):
    found, lengths = fitting(tokenizer, FIXED + EACH * tokens)
    texts = np.array([found, found + 1]) * 4
    likely = np.minimum(texts * lengths.mean() + 4 * lengths.std() * np.sqrt(texts), texts * lengths.max())
    assert likely[0] <= tokens < likely[1]
    drawn = np.random.default_rng(0).choice(lengths, (10_000, texts[0])).sum(axis=1)
    # Beyond four standard deviations above the mean of many like texts: 3e-5 of a normal distribution.
    assert (drawn > tokens).mean() < 1e-3


def test_no_more_than_all_clients_and_one_where_two_do_not_fit(tokenizer):
    assert fitting(tokenizer, 10**9, clients=3)[0] == 3
    _, lengths = fitting(tokenizer, 10**9)
    one = FIXED + EACH * 4 * int(lengths.max())
    assert fitting(tokenizer, 10**9, most=one)[0] == 1
    assert fitting(tokenizer, one - 100)[0] == 0
    assert fitting(tokenizer, 10**9, most=10)[0] == 0


def test_what_is_not_finite_is_left_for_the_first_step_to_name(tokenizer, monkeypatch):
    def broken(*arguments, **options):
        raise TrainingError("loss of client 0 is nan")

    monkeypatch.setattr("declora.train.probe.one_step", broken)
    assert fitting(tokenizer, 10**9, clients=3)[0] == 3


@pytest.mark.parametrize(
    ("together", "said", "fits", "size", "recomputed"),
    [(True, None, [7], 7, False), (True, None, [0, 3], 3, True), (True, None, [0, 0], 1, True),
     (False, None, [1], 1, False), (False, None, [0, 1], 1, True), (True, 5, [0, 3], 5, True)],
)  # fmt: skip
def test_where_one_client_does_not_fit_a_gpu_computes_again(monkeypatch, together, said, fits, size, recomputed):
    """Whether or not clients share passes, and whatever group was asked for."""
    found, measured = [], iter(fits)

    def find(*arguments, recompute, **options):
        found.append(recompute)
        return Sharing(together)

    monkeypatch.setattr("declora.train.grouping.find_sharing", find)
    monkeypatch.setattr("declora.train.grouping.clients_that_fit", lambda *arguments, **options: next(measured))
    on_card = SimpleNamespace(device=torch.device("cuda"))
    options = {"clients": 9, "batch_size": 4, "max_length": 8, "special": [], "unpad": True, "base_dropout": False}
    _, clients = find_groups(on_card, None, None, recompute=None, group_size=said, **options)
    assert clients == size
    assert found == [False, True][: 1 + recomputed]
