"""On a card, what is computed on a CPU: `make test-gpu` runs these where there is one."""

import copy
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch

from conftest import DEVICE
from declora.config import SimulationConfig
from declora.prepare import prepare
from declora.run import Run
from declora.train.evaluate import evaluate
from tiny import tiny_bert, tiny_gpt2, tiny_llama, tiny_texts
from tiny_families import tiny_model, together

pytestmark = pytest.mark.gpu
# Plain SGD, without rounding of messages: AdamW would blow up the rounding of gradients near 0, and a codec what lies
# between two of its levels.
PLAIN = {
    "optimizer": "sgd", "learning_rate": 0.5, "schedule": "constant", "warmup": 0.0, "codec": "none", "clients": 4,
    "rounds": 2, "local_steps": 3, "batch_size": 4, "max_length": 32, "client_eval_samples": None,
}  # fmt: skip
MODELS = {
    "bert": (tiny_bert, "classification"),
    "llama": (tiny_llama, "causal-lm"),
    "gpt2": (tiny_gpt2, "causal-lm"),
}
# Sums in another order: of float32, measured on an H100, 1e-6.
CLOSE = 1e-5


@pytest.fixture
def run_on(tokenizer):
    """Returns a run on a device, ready to start."""

    def make(device, name, *, rows=96, **settings):
        model, task = MODELS[name]
        data = datasets.DatasetDict(train=tiny_texts(rows), validation=tiny_texts(40, seed=1))
        data = data if task == "classification" else data.remove_columns("label")
        config = SimulationConfig(
            model=settings.pop("model", None) or model(), tokenizer=tokenizer, data=data, task=task, device=device,
            **{"lora": {"r": 4}, **PLAIN, **settings},
        )  # fmt: skip
        run = Run(config, prepare(config))
        assert run.material.base.device.type == torch.device(device).type
        return run

    return make


def apart(rows, expected, start):
    """How far the adapters `[C, D]` are from what is expected of each, in units of the way it moves; the largest."""
    return float(((rows - expected).norm(dim=1) / (expected - start).norm(dim=1)).max())


def begins(run):
    """The adapter `[D]` that all clients of a run begin with."""
    return run._surgery.initial


@pytest.mark.parametrize("unpad", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_run_ends_with_the_adapters_and_scores_of_the_same_run_on_a_cpu(name, unpad, run_on):
    card, cpu = (run_on(device, name, unpad=unpad) for device in (DEVICE, "cpu"))
    assert (card.sharing.unpadding is not None) == unpad
    found, expected = card.execute(), cpu.execute()
    assert apart(found.rows, expected.rows, begins(cpu)) < CLOSE
    for column in ("train_loss", "average_loss", "consensus_distance"):
        np.testing.assert_allclose(found.history[column], expected.history[column], rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_the_same_run_twice_gives_the_same_bits(name, dtype, run_on):
    settings = {"optimizer": "adamw", "codec": "q4", "lora": {"r": 4, "lora_dropout": 0.1}, "base_dropout": True}
    first, again = (run_on(DEVICE, name, model=MODELS[name][0]().to(dtype), **settings).execute() for _ in range(2))
    assert torch.equal(first.rows, again.rows)
    timeless = [column for column in first.history if not column.startswith("seconds_")]
    assert first.history[timeless].equals(again.history[timeless])


FAMILIES = {
    "bert": ("bert", "classification", {}),
    "llama": ("llama", "causal-lm", {}),
    "a window of 4 tokens": ("mistral", "causal-lm", {"sliding_window": 4}),
    "softcaps": ("gemma2", "causal-lm", {"attn_logit_softcapping": 0.5, "sliding_window": 4}),
}


@pytest.mark.parametrize("targets", [None, "all-linear"])
@pytest.mark.parametrize("name", FAMILIES)
def test_clients_together_train_as_each_would_alone_with_peft_on_a_cpu(name, targets, tokenizer):
    kind, task, sizes = FAMILIES[name]
    model = tiny_model(kind, task, **sizes)
    found = together(copy.deepcopy(model), tokenizer, task, targets, device=DEVICE)
    assert found.run.sharing.unpadding is not None
    assert apart(found.outcome.rows, found.alone(model), found.start) < CLOSE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("targets", [None, "all-linear"])
@pytest.mark.parametrize("name", FAMILIES)
def test_in_half_precision_clients_together_are_as_near_to_exact_as_each_alone_with_peft(
    name, targets, dtype, tokenizer
):
    """Exact is float32 over the same weights. Rounding differs, but should not be more: it may be twice as much."""
    kind, task, sizes = FAMILIES[name]
    model = tiny_model(kind, task, **sizes).to(dtype)
    found = together(copy.deepcopy(model), tokenizer, task, targets, device=DEVICE)
    assert found.run.sharing.unpadding is not None
    exact = found.alone(copy.deepcopy(model).float())
    ours, theirs = (apart(rows, exact, found.start) for rows in (found.outcome.rows, found.alone(model.to(DEVICE))))
    assert 0 < ours < 2 * theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_compiled_blocks_train_as_blocks_that_are_not(name, dtype, run_on):
    """In float32 but for the order of sums; in bfloat16 as near to float32 over the same weights, or twice as far."""
    model = MODELS[name][0]().to(dtype)
    exact = run_on("cpu", name, model=copy.deepcopy(model).float())
    start, expected, wrong = begins(exact), exact.execute().rows, {}
    for compile in (True, False):
        run = run_on(DEVICE, name, model=copy.deepcopy(model), compile=compile)
        assert (run.sharing.compilation is not None) == compile
        wrong[compile] = apart(run.execute().rows, expected, start)
    assert wrong[True] < (CLOSE if dtype == torch.float32 else 2 * wrong[False])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_group_may_have_more_clients_than_a_grouped_product_takes(dtype, run_on):
    """torch refuses 1,024 groups. Each client takes a step: in one group of all, in groups of 100, and in float32."""
    clients = 1030
    settings = {
        "clients": clients, "rows": clients, "rounds": 1, "local_steps": 1, "batch_size": 1, "method": "local",
        "client_eval_samples": 0,
    }  # fmt: skip
    model = tiny_bert(width=16).to(dtype)
    exact = run_on("cpu", "bert", model=copy.deepcopy(model).float(), **settings)
    start, expected = begins(exact), exact.execute().rows
    wrong = []
    for group in (clients, 100):
        run = run_on(DEVICE, "bert", model=copy.deepcopy(model), group_size=group, **settings)
        assert run.group_size == group
        wrong.append(apart(run.execute().rows, expected, start))
    assert wrong[0] < (CLOSE if dtype == torch.float32 else 1.5 * wrong[1])


def test_clients_of_unlike_ranks_train_and_mix_as_on_a_cpu(run_on):
    for method in ("dec-lora", "decaf"):
        card, cpu = (run_on(device, "bert", ranks=[1, 4, 2, 3], method=method) for device in (DEVICE, "cpu"))
        assert apart(card.execute().rows, cpu.execute().rows, begins(cpu)) < CLOSE


@pytest.mark.parametrize("unpad", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_lora_dropout_drops_on_a_card_what_it_drops_on_a_cpu(name, unpad, run_on):
    """Another mask would be far off: with half of all values dropped, another seed's is by a tenth and more."""
    lora = {"r": 4, "lora_dropout": 0.5}
    card, cpu, other = (
        run_on(device, name, unpad=unpad, lora=lora, method="local") for device in (DEVICE, "cpu", "cpu")
    )
    for slot in other._surgery.slots:
        slot.layer.dropout_seed = 0
    found, expected, redrawn = (run.execute().rows for run in (card, cpu, other))
    assert apart(found, expected, begins(cpu)) < CLOSE
    assert apart(redrawn, expected, begins(cpu)) > 0.1


@pytest.mark.parametrize("name", MODELS)
def test_adapters_score_on_a_card_what_they_score_on_a_cpu(name, run_on):
    """33 of them, more than fill a batch on a CPU: in passes that they share, and in passes of their own."""
    scores = {}
    for device in (DEVICE, "cpu"):
        run = run_on(device, name)
        values = begins(run) + 0.1 * torch.randn(33, run.layout.columns, generator=torch.Generator().manual_seed(0))
        tokens = run.material.evaluation
        for shared in (True, False):
            sharing = run.sharing if shared else replace(run.sharing, together=False)
            with run.installed():
                found = evaluate(
                    run.material.base.model, run.bank, values.to(device), tokens, np.arange(len(tokens)), run.metric,
                    sharing,
                )  # fmt: skip
            scores[device, shared] = found
    for found in scores.values():
        expected = scores["cpu", False]
        np.testing.assert_allclose([x.loss for x in found], [x.loss for x in expected], rtol=1e-5)
        if name == "bert":
            assert [x.metrics["accuracy"] for x in found] == [x.metrics["accuracy"] for x in expected]
