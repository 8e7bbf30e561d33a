"""A base in float16: gradients that it could not hold by themselves, and steps that would leave its numbers."""

import copy

import numpy as np
import peft
import pytest
import torch

import declora
from declora.errors import TrainingError
from declora.methods import Step
from declora.model import AdapterBank, loss_scale
from declora.model.loss_scale import LossScale
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.plan import Plan
from declora.train.local_steps import LocalTrainer
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder
from declora.train.scored import ScoredHead
from resumable import write_adapters
from test_train import tokens_of
from tiny import tiny_bert, tiny_llama, tiny_texts

CLIENTS = 3
CPU = torch.device("cpu")
MODELS = {
    "bert": (tiny_bert, "classification", "SEQ_CLS", ["query", "value"], 2**-8, ("attention.output.dense", "pooler")),
    "llama": (tiny_llama, "causal-lm", "CAUSAL_LM", ["q_proj", "v_proj"], 2**-6, ("o_proj", "lm_head", "model.norm")),
}
CLOSE = 2**-7
"""Of a gradient's norm: float16 keeps 11 bits, of each of the few roundings on the way through two blocks."""


def damped(name):
    """A model in which little comes back to the adapters, though float16 has all of its weights."""
    make, *_, factor, after = MODELS[name]
    model = make()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if any(layer in key for layer in after):
                weight *= factor
    return model.half().float()


def gradients(model, name, tokenizer, *, scored=False, examples=False):
    """What is in G of the adapters of three clients after a step, and what is remembered of their scales."""
    _, task, task_type, targets, *_ = MODELS[name]
    model, tokens, owners = copy.deepcopy(model), tokens_of(tokenizer, task), RowOwners()
    surgery = Surgery(model, peft.LoraConfig(r=2, target_modules=targets, task_type=task_type), owners, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, owners)
    bank.fill(surgery.initial, CLIENTS, CPU)
    bank.P += 0.02 * torch.randn(bank.P.shape, generator=torch.Generator().manual_seed(5))
    bank.bind(bank.P[:1])
    head = None
    if scored:
        with owners.computing(2):
            head = ScoredHead.of(model, tokens.batch(np.arange(2), CPU))
        assert head is not None
    steps = np.ones(CLIENTS, dtype=np.int64)
    optimizer = ClientOptimizer(
        bank.P, bank.G, name="sgd", learning_rate=0.0, weight_decay=np.zeros(bank.P.shape[1]), momentum=0.0,
        schedule="constant", warmup=0.0, steps=steps, clip_norm=None,
    )  # fmt: skip
    shards = np.array_split(np.arange(12), CLIENTS)
    orders = [ClientOrder(shard, batch_size=len(shard), seed=0, client=i) for i, shard in enumerate(shards)]
    room = {}
    trainer = LocalTrainer(
        model, bank, optimizer, tokens, orders, steps=steps, group_size=2, examples=3, head=head, room=room
    )
    plan = Plan.of_clients(bank.layout.columns, steps)
    step = Step(plan, plan.phases[0], 0, bank.G, torch.ones(CLIENTS))
    change = (lambda found: None) if examples else None
    trainer.gradients.compute(step, 0 * steps, [order.batch(0) for order in orders], change)
    adapters = [bank.layout.view(bank.G, block.name).flatten(1) for pair in bank.layout.pairs for block in pair]
    return torch.cat(adapters, dim=1).double(), room


def bases(model):
    """The same weights in float32, and in float16."""
    return model, copy.deepcopy(model).half()


def off(found, exact):
    """How far each client's gradient is off, by its norm."""
    return ((found - exact).norm(dim=1) / exact.norm(dim=1)).tolist()


@pytest.mark.parametrize(
    ("name", "options"),
    [("bert", {}), ("bert", {"examples": True}), ("llama", {}), ("llama", {"scored": True})],
    ids=str,
)
def test_gradients_too_small_for_float16_are_those_of_float32(name, options, tokenizer, monkeypatch):
    model = damped(name)
    exact, nothing = gradients(model, name, tokenizer, **options)
    found, room = gradients(copy.deepcopy(model).half(), name, tokenizer, **options)
    assert not nothing  # nothing is scaled in float32
    assert max(off(found, exact)) < CLOSE
    assert room["scale"].tolist() == [2.0**16] * CLIENTS
    monkeypatch.setattr(loss_scale, "_FIRST", 1.0)
    lost, _ = gradients(model.half(), name, tokenizer, **options)
    assert min(off(lost, exact)) > 10 * CLOSE  # else the test would show nothing


def test_where_a_scale_is_too_large_the_step_is_computed_again(tokenizer, monkeypatch):
    exact, _ = gradients(tiny_llama(), "llama", tokenizer)
    expected, _ = gradients(tiny_llama().half(), "llama", tokenizer)
    monkeypatch.setattr(loss_scale, "_FIRST", 2.0**40)
    found, room = gradients(tiny_llama().half(), "llama", tokenizer)
    assert max(off(found, exact)) < CLOSE
    assert (room["scale"] < 2.0**40).all()
    # A power of two changes no bit of what does not leave the numbers at either end.
    assert max(off(found, expected)) < CLOSE / 4


def test_a_scale_is_halved_where_needed_alone_and_doubles_after_2000_steps():
    scale, wanted = LossScale(room := {}, 3), np.array([2.0**16, 2.0**14, 2.0**16])

    def compute(matrix):
        matrix[:] = 1.0
        matrix[1] = torch.inf if scale.scales[1] > 2.0**14 else 1.0
        return "what it returns"

    matrix = torch.zeros(3, 4)
    assert scale.settled(matrix, lambda: compute(matrix)) == "what it returns"
    assert scale.scales.tolist() == wanted.tolist()
    assert room["calm"].tolist() == [1, 1, 1]
    for doubled in range(1, 12):
        room["calm"][:] = 1998
        scale.settled(matrix, lambda: matrix.fill_(1.0))
        assert scale.scales.tolist() == np.minimum(wanted * 2 ** (doubled - 1), 2.0**24).tolist()
        scale.settled(matrix, lambda: matrix.fill_(1.0))
        assert scale.scales.tolist() == np.minimum(wanted * 2**doubled, 2.0**24).tolist()


def test_what_no_scale_mends_is_an_error_that_names_the_dtype(tiny_run):
    with pytest.raises(TrainingError, match=r"client 0 is (nan|inf) in round \d .*use dtype='bfloat16' or 'float32'"):
        tiny_run(model=tiny_bert().half(), learning_rate=1e6, rounds=3, warmup=0.0)


@pytest.mark.parametrize("more", [{}, {"method": "kd", "public_data": tiny_texts(6, seed=2)}], ids=str)
def test_a_run_in_float16_learns_what_one_in_float32_does_and_resumes(more, tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr("declora.simulation.write_run", write_adapters)
    monkeypatch.setattr(loss_scale, "_FIRST", 2.0**24)  # so that there is something to remember
    model, plain = tiny_bert().half().float(), {"schedule": "constant", "warmup": 0.0, **more}
    exact, whole = (tiny_run(model=base, optimizer="sgd", **plain)._outcome.rows for base in bases(model))
    begun = (tiny_run(model=base, optimizer="sgd", rounds=1, learning_rate=1e-12, **plain) for base in bases(model))
    moved, in_half = (end - start._outcome.rows for end, start in zip((exact, whole), begun, strict=True))
    assert (in_half - moved).norm() < CLOSE * moved.norm()
    tiny_run(
        model=copy.deepcopy(model).half(), optimizer="sgd", rounds=1, checkpoint_every=1, out=str(tmp_path / "a"),
        **plain,
    )  # fmt: skip
    objects = {"model": copy.deepcopy(model).half(), "progress": False}
    given = {key: plain[key] for key in ("public_data",) if key in plain}
    data = tiny_run.keywords
    again = declora.resume(
        str(tmp_path / "a"), rounds=3, tokenizer=data["tokenizer"], data=data["data"], **objects, **given
    )
    assert torch.equal(again._outcome.rows, whole)


def test_a_base_is_loaded_in_float16(tmp_path, tokenizer, tiny_run):
    folder = str(tmp_path / "model")
    tiny_bert().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loaded = tiny_run(model=folder, tokenizer=None, dtype="float16", rounds=1)
    given = tiny_run(model=tiny_bert().half(), rounds=1)
    assert torch.equal(loaded._outcome.rows, given._outcome.rows)
    assert loaded.history["average_loss"].iloc[-1] == given.history["average_loss"].iloc[-1]
