"""Compiled blocks: the same bits of what is not the compiler's own, and few programs, however sizes and clients vary."""

import warnings

import numpy as np
import pytest
import torch
import transformers

from declora.config import SimulationConfig
from declora.errors import ConfigError
from declora.model import compilation
from declora.model.outside import call, numbered
from declora.prepare import prepare
from declora.run import Run
from test_sharing import with_blocks
from tiny import tiny_bert, tiny_gpt2, tiny_llama, tiny_texts

GPT2 = {"lora": {"r": 2, "lora_dropout": 0.2}}
MODELS = {
    # The last block of such a classifier is narrowed to first tokens by hooks, and stays as it is: a program for one.
    "bert": (tiny_bert, {}, 1),
    "gpt2, with LoRA dropout": (tiny_gpt2, GPT2, 2),
    "llama, all layers": (tiny_llama, {"lora": {"r": 2, "target_modules": "all-linear"}}, 2),
}
PADDED = {"unpad": False, "sort_by_length": True}


@pytest.fixture
def programs(monkeypatch):
    """What was compiled, by a compiler that leaves all as it is."""
    made = []

    def backend(graph, inputs):
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(compilation, "BACKEND", backend)
    return made


def run_of(make, tokenizer, **settings):
    """A run of five clients in groups of two, two and one, which have unequally many texts and so wait for each other."""
    model = make()
    few = {
        "clients": 5, "rounds": 3, "local_epochs": 1, "batch_size": 4, "group_size": 2, "learning_rate": 0.01,
        "partition": [list(range(4)), list(range(4, 5)), list(range(5, 18)), list(range(18, 27)), list(range(27, 36))],
        "client_eval_samples": 0, "eval_every": 3, "device": "cpu", "lora": {"r": 2},
    }  # fmt: skip
    task = "causal-lm" if "LM" in type(model).__name__ else "classification"
    data = tiny_texts(36).remove_columns("label") if task == "causal-lm" else tiny_texts(36)
    config = SimulationConfig(model=model, tokenizer=tokenizer, data=data, eval_data=data, task=task, **few | settings)
    return Run(config, prepare(config))


def rows_of(run, seen=lambda: None):
    rows = []
    for _ in run.rounds():
        rows.append(run.bank.P.clone())
        seen()
    assert not [module for module in run.material.base.model.modules() if "forward" in vars(module)]
    return torch.stack(rows)


@pytest.mark.parametrize("name", MODELS)
def test_all_rounds_are_computed_by_the_programs_of_the_trial_with_the_same_bits(name, tokenizer, programs):
    make, settings, count = MODELS[name]
    run, counts = run_of(make, tokenizer, compile=True, **settings), []
    assert run.notes == run_of(make, tokenizer, **settings).notes
    assert run.sharing.unpadding is not None
    assert len(programs) == count  # made when the model was tried
    found = rows_of(run, lambda: counts.append(len(programs)))
    assert counts == [count] * 3
    assert torch.equal(found, rows_of(run_of(make, tokenizer, **settings)))
    again = run_of(make, tokenizer, compile=True, activation_checkpointing=True, **settings)
    assert torch.equal(rows_of(again), found)
    assert len(programs) == 2 * count
