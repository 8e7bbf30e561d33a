"""Local steps: which samples a round takes, whose dropout it draws, what it reports, and what ends it."""

import itertools
import re

import numpy as np
import peft
import pytest
import torch

from declora import process, seeds
from declora.errors import TrainingError
from declora.model import AdapterBank
from declora.model.dropout import row_masks
from declora.model.frozen import product_rows
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.model.unpad import Unpadding
from declora.train.local_steps import LocalTrainer
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder
from test_train import round_of, tokens_of
from tiny import tiny_bert

CLIENTS, BATCH, ROUNDS = 3, 8, 3
STEPS = np.array([2, 1, 3])


class Watched(ClientOrder):
    """An order that keeps what was taken from it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.taken = []

    def batch(self, step):
        self.taken.append(super().batch(step))
        return self.taken[-1]


@pytest.fixture
def trainer(tokenizer):
    """Returns a function that makes a trainer of three clients on a tiny BERT, its bank and its orders."""

    def make(*, dropout=0.0, steps=STEPS, group_size=CLIENTS, rate=0.1, unpad=False, **options):
        lora = peft.LoraConfig(r=2, target_modules=["query", "value"], task_type="SEQ_CLS", lora_dropout=dropout)
        model, tokens, rows = tiny_bert(), tokens_of(tokenizer, "classification"), RowOwners()
        surgery = Surgery(model, lora, rows, seed=3)
        bank = AdapterBank(surgery.layout, surgery.slots, rows)
        bank.fill(surgery.initial, CLIENTS, torch.device("cpu"))
        shards = np.array_split(np.arange(len(tokens)), CLIENTS)
        orders = [Watched(shard, batch_size=BATCH, seed=7, client=i) for i, shard in enumerate(shards)]
        sgd = {"name": "sgd", "momentum": 0.0, "schedule": "constant", "warmup": 0.0, "clip_norm": None}
        decay = np.zeros(surgery.layout.columns)
        optimizer = ClientOptimizer(bank.P, bank.G, learning_rate=rate, weight_decay=decay, steps=ROUNDS * steps, **sgd)
        bank.bind(bank.P[:1])
        options["unpadding"] = Unpadding.of(model, rows) if unpad else None
        options = {"steps": steps, "group_size": group_size, **options}
        return LocalTrainer(model, bank, optimizer, tokens, orders, **options), bank, orders

    return make


def test_rounds_go_on_where_the_last_one_ended(trainer):
    local, _, orders = trainer()
    for t in range(ROUNDS):
        assert round_of(local, t).samples.tolist() == (BATCH * STEPS).tolist()
    for order, own in zip(orders, STEPS, strict=True):
        again = ClientOrder(order.shard, batch_size=BATCH, seed=7, client=orders.index(order))
        expected = [again.batch(step).tolist() for step in range(ROUNDS * own)]
        assert [batch.tolist() for batch in order.taken] == expected
        assert len({tuple(sorted(batch)) for batch in expected}) > 1


@pytest.mark.parametrize("group_size", [1, 2, 3])
def test_every_client_round_step_and_sample_has_a_dropout_mask_of_its_own(trainer, monkeypatch, group_size):
    """A mask's stream is (layer, round, client, place among the client's samples of the round)."""
    drawn = []

    def masks(rows, shape, *, seed, **named):
        found = row_masks(rows, shape, seed=seed, **named)
        for i in range(shape[0]):
            drawn.append(((seed, rows.round, int(rows.clients[i]), int(rows.samples[i])), found[i]))
        return found

    monkeypatch.setattr("declora.model.batched.row_masks", masks)
    local, _, _ = trainer(dropout=0.5, group_size=group_size)
    for t in range(ROUNDS):
        round_of(local, t)
    layers = {name for (name, *_), _ in drawn}
    expected = [
        (layer, t, client, place)
        for layer, t, client in itertools.product(layers, range(ROUNDS), range(CLIENTS))
        for place in range(BATCH * STEPS[client])
    ]
    assert len(layers) == 4
    assert sorted(key for key, _ in drawn) == sorted(expected)
    signs = torch.stack([found.flatten()[:200] for _, found in drawn if found.numel() >= 200]).sign() * 2 - 1
    alike = torch.tril(signs @ signs.T, diagonal=-1)
    # The sum of 200 fair signs is 0 with a standard deviation of 14.1; of fewer than 10^6 pairs none is 6 of them off.
    assert alike.abs().max() < 6 * 14.1


@pytest.mark.parametrize(("sort", "slices"), [(True, [2, 1]), (False, [1, 1])])
def test_the_bases_own_dropout_is_seeded_by_round_step_group_and_slice(trainer, monkeypatch, sort, slices):
    """Groups of 2 and 1 clients, so of 16 and 8 sequences; a slice of sorted ones has at least 8."""
    seen, original = [], process.seeded

    def watched(seed, *device):
        seen.append(seed)
        return original(seed, *device)

    local, _, _ = trainer(group_size=2, base_dropout=True, sort_by_length=sort, seed=11, steps=np.full(3, 2))
    monkeypatch.setattr("declora.process.seeded", watched)
    for t in range(ROUNDS):
        round_of(local, t)
    groups = [(start, part) for start, count in zip((0, 2), slices, strict=True) for part in range(count)]
    assert seen == [
        seeds.derive(11, "base-dropout", t, step, *group)
        for t, step, group in itertools.product(range(ROUNDS), range(2), groups)
    ]


@pytest.mark.parametrize("asked", [False, True])
def test_the_base_drops_out_in_training_alone_and_only_where_asked_for(trainer, asked):
    local, bank, _ = trainer(base_dropout=asked)
    modes = []
    local._model.bert.embeddings.register_forward_hook(lambda module, *_: modes.append(module.training))
    round_of(local, 0)
    assert set(modes) == {asked}
    assert not any(module.training for module in local._model.modules())
    assert not bank.owners.training


def test_without_padding_a_block_computes_tokens_alone(trainer):
    computed = {}
    for unpad in (False, True):
        local, _, orders = trainer(unpad=unpad, sort_by_length=False, steps=np.ones(3, dtype=np.int64))
        computed[unpad] = []
        block = local._model.bert.encoder.layer[0].intermediate
        block.register_forward_pre_hook(lambda _, args, found=computed[unpad]: found.append(args[0][..., 0].numel()))
        round_of(local, 0)
        lengths = local._tokens.lengths[np.concatenate([order.taken[0] for order in orders])]
    # Numbers of rows are rounded up to the next for which a product is made.
    assert computed == {False: [lengths.max() * len(lengths)], True: [product_rows(int(lengths.sum()))]}
    assert computed[True] < computed[False]


def test_a_clients_loss_is_the_mean_over_its_own_steps(trainer):
    """At a rate near 0 nothing moves, so each step's loss is the model's own of that batch."""
    local, bank, orders = trainer(rate=1e-30)
    model, tokens = local._model, local._tokens
    losses = round_of(local, 0).losses
    bank.bind(bank.P[:1])
    for client, order in enumerate(orders):
        own = []
        for taken in order.taken:
            batch = tokens.batch(taken, torch.device("cpu"))
            with torch.no_grad(), bank.owners.computing(len(taken)):
                own.append(float(model(**batch.inputs, labels=batch.labels).loss))
        assert losses[client] == pytest.approx(np.mean(own), abs=1e-5)


def test_a_loss_that_is_not_finite_names_client_and_round(trainer):
    local, bank, _ = trainer()
    bank.P[1, -1] = float("nan")
    with pytest.raises(TrainingError, match=r"loss of client 1 is nan in round 4 \(local step 1; 1 of 3 clients\)"):
        round_of(local, 3)


QUERY, DENSE = "bert.encoder.layer.1.attention.self.query.weight", "bert.encoder.layer.0.output.dense.weight"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("broken", "named"),
    [([QUERY], f"in {QUERY}. "), (["bert.pooler.dense.bias", DENSE], f"in {DENSE} and 1 more. ")],
    ids=["below an adapter", "two"],
)
def test_weights_of_the_base_that_are_not_finite_are_named_not_the_learning_rate(trainer, broken, named, value):
    local, _, _ = trainer()
    weights = {name.replace(".base.", "."): weight for name, weight in local._model.named_parameters()}
    with torch.no_grad():
        for name in broken:
            weights[name].view(-1)[3] = value
    with pytest.raises(TrainingError, match=f"loss of client 0 .* not finite, {re.escape(named)}") as caught:
        round_of(local, 0)
    assert "learning_rate" not in str(caught.value)


def test_a_gradient_that_is_not_finite_names_client_and_round(trainer, monkeypatch):
    local, bank, _ = trainer()
    original = ClientOptimizer.gradient_norms

    def norms(optimizer):
        bank.G[2, 0] = float("inf")
        return original(optimizer)

    monkeypatch.setattr(ClientOptimizer, "gradient_norms", norms)
    with pytest.raises(TrainingError, match=r"gradient of client 2 is inf in round 1"):
        round_of(local, 0)


def test_an_adapter_that_leaves_the_finite_numbers_in_the_last_step_is_noticed(trainer):
    """Loss and gradient of the one step are finite; the step itself is too long for float32."""
    local, bank, _ = trainer(rate=3e38, steps=np.ones(3, dtype=np.int64))
    bank.P.mul_(10.0)
    with pytest.raises(TrainingError, match=r"adapter of client 0 is .* in round 2 \(local step 1"):
        round_of(local, 1)


def short_of_memory(trainer, most):
    """Has the model of `trainer` run out of memory where it gets more than so many texts."""

    def check(module, args, kwargs):
        if len(kwargs["input_ids"]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    trainer._model.register_forward_pre_hook(check, with_kwargs=True)


@pytest.mark.parametrize("unpad", [True, False])
def test_where_a_gpus_memory_runs_out_half_as_many_clients_are_computed_together_once(trainer, monkeypatch, unpad):
    """Two of three clients have room: what the first group had before is not counted twice."""
    monkeypatch.setattr("declora.train.gradients._HALVING", {"cpu"})
    options = {"unpad": unpad, "sort_by_length": False}
    smaller, expected, _ = trainer(group_size=1, **options)
    larger, found, _ = trainer(group_size=2, **options)
    short_of_memory(larger, BATCH)
    with pytest.warns(UserWarning, match=r"memory of cpu ran out, .* groups of 1 .* in place of 2"):
        round_of(larger, 0)
    round_of(smaller, 0)
    assert larger.gradients.group_size == 1
    torch.testing.assert_close(found.P, expected.P, rtol=1e-5, atol=1e-6)
    short_of_memory(larger, BATCH - 1)
    with pytest.raises(torch.OutOfMemoryError):
        round_of(larger, 1)


def test_on_a_cpu_a_group_stays_what_it_is(trainer):
    larger, _, _ = trainer(group_size=2)
    short_of_memory(larger, 1)
    with pytest.raises(torch.OutOfMemoryError):
        round_of(larger, 0)
    assert larger.gradients.group_size == 2


@pytest.mark.parametrize("unpad", [True, False])
def test_the_default_dtype_that_another_thread_sets_for_its_model_meanwhile_changes_nothing(trainer, unpad):
    """transformers sets it for the whole process while a model is made in bfloat16."""
    bits, usual = [], torch.get_default_dtype()
    for dtype in (usual, torch.bfloat16):
        local, bank, _ = trainer(dropout=0.5, unpad=unpad)
        torch.set_default_dtype(dtype)
        try:
            losses = round_of(local, 0).losses
        finally:
            torch.set_default_dtype(usual)
        bits.append((bank.P.clone(), torch.from_numpy(losses)))
    for first, second in zip(*bits, strict=True):
        assert torch.equal(first, second)
