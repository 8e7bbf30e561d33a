"""Runs in threads of one process: each gives what it gives alone, and leaves the process as it was."""

import importlib
import os
import random
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import transformers

import declora
from declora import process
from declora.errors import ModelError, TrainingError
from declora.model.held import held
from declora.report import house_style
from tiny import tiny_bert, tiny_gpt2, tiny_llama

CLIENTS = 3
KINDS = {
    "base dropout, drawn from torch's generator": lambda: {"model": tiny_bert(), "base_dropout": True},
    "random weights, drawn from it": lambda: {"model": tiny_bert().config, "codec": "q2+choco"},
    "weights made in bfloat16": lambda: {
        "model": tiny_llama().config, "task": "causal-lm", "dtype": "bfloat16", "lora": {"r": 2},
    },
    "another cut by the same tokenizer": lambda: {
        "model": tiny_gpt2(), "task": "causal-lm", "max_length": 5, "packing": True, "lora": {"r": 2},
    },
}  # fmt: skip


@pytest.fixture
def run(tokenizer, texts):
    """Returns `simulate` with tiny defaults."""

    def simulate(**settings):
        defaults = {
            "tokenizer": tokenizer, "data": texts, "clients": CLIENTS, "rounds": 2, "local_steps": 2, "batch_size": 4,
            "learning_rate": 1e-2, "client_eval_samples": 4, "lora": {"r": 2, "lora_dropout": 0.2}, "eval_every": 1,
        }  # fmt: skip
        return declora.simulate(**{**defaults, **settings})

    return simulate


def of_process():
    """What a process has once and a run might change."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),  # noqa: NPY002 - this is the generator that must not move
        "random": random.getstate(),
        "filters": list(warnings.filters),
        "verbosity": transformers.logging.get_verbosity(),
        "bars": transformers.logging.is_progress_bar_enabled(),
        "dtype": torch.get_default_dtype(),
    }


def figures(result):
    return [result.client(i).row.tolist() for i in range(CLIENTS)], result.history["average_loss"].tolist()


def test_runs_of_every_kind_in_threads_give_the_bits_that_each_gives_alone(run):
    alone = {kind: figures(run(**make())) for kind, make in KINDS.items()}
    settings = [(kind, make()) for kind, make in KINDS.items() for _ in range(2)]
    before = of_process()
    with ThreadPoolExecutor(len(settings)) as pool:
        found = list(pool.map(lambda own: (own[0], figures(run(**own[1]))), settings))
    for kind, figures_of_thread in found:
        assert figures_of_thread == alone[kind], kind
    assert of_process() == before


def others_kept_out():
    """Whether another thread would have to wait now."""

    def free():
        return process._lock.acquire(blocking=False) and not process._lock.release()

    with ThreadPoolExecutor(1) as pool:
        return not pool.submit(free).result()


@pytest.mark.parametrize(
    "step",
    ["declora.data.load", "declora.model.load_base", "declora.train.tokens.tokenize", "declora.run.Surgery"],
)
def test_what_loads_keeps_other_threads_out_and_what_trains_does_not(run, monkeypatch, step):
    module, _, name = step.rpartition(".")
    original, seen = getattr(importlib.import_module(module), name), []

    def watched(*args, **kwargs):
        seen.append(others_kept_out())
        return original(*args, **kwargs)

    monkeypatch.setattr(step, watched)
    train = declora.run.LocalTrainer.run
    monkeypatch.setattr(
        "declora.run.LocalTrainer.run", lambda *args, **kwargs: seen.append(others_kept_out()) or train(*args, **kwargs)
    )
    run(model=tiny_bert(), rounds=1)
    assert seen[-1] is False
    assert seen[:-1]
    assert all(seen[:-1])


def test_a_figure_is_drawn_alone():
    with house_style():
        assert others_kept_out()
    assert not others_kept_out()


def test_a_model_is_one_runs_at_a_time_and_free_again_when_that_ended_or_failed(run, monkeypatch):
    model, other = tiny_bert(), tiny_bert()
    training, refused = threading.Event(), threading.Event()
    first_round = declora.run.Run._round

    def slow(self, *args):
        training.set()
        assert refused.wait(60)
        return first_round(self, *args)

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        patch.setattr("declora.run.Run._round", slow)
        one = pool.submit(run, model=model)
        assert training.wait(60)
        shares_a_part = tiny_bert()
        shares_a_part.bert.encoder = model.bert.encoder
        modules = dict(model.named_modules())
        for taken in ({"model": model}, {"model": shares_a_part}, {"compare": {"a": {"model": model}}, "model": other}):
            with pytest.raises(ModelError, match="BertForSequenceClassification is in use by another run"):
                run(**taken)
        assert dict(model.named_modules()) == modules, "a refused run changed the model of the other"
        refused.set()
        undisturbed = one.result()
    assert figures(undisturbed) == figures(run(model=other))
    with pytest.raises(TrainingError):
        run(model=model, optimizer="sgd", learning_rate=1e38, clip_norm=None)
    assert figures(run(model=model)) == figures(undisturbed)


def test_a_model_named_twice_is_held_once():
    model = tiny_bert()
    with held([model, "minilm", None, model]), pytest.raises(ModelError, match="in use"), held([model.bert]):
        pass
    with held([model.bert]):
        pass


@pytest.mark.parametrize("ends", ["well", "in an error"])
def test_seeded_generators_are_those_of_the_seed_inside_and_as_before_outside(ends):
    def draw():
        return torch.rand(3).tolist(), np.random.random(3).tolist(), random.random()  # noqa: NPY002

    def of_seed(seed):
        draws = []
        try:
            with process.seeded(seed):
                draws.append(draw())
                if ends == "in an error":
                    raise KeyError
        except KeyError:
            pass
        return draws

    draw()
    before = of_process()
    assert of_seed(2**64 - 1) == of_seed(2**64 - 1)
    assert of_process() == before
    assert all(a != b for a, b in zip(*of_seed(1), *of_seed(2), strict=True))
    with process.seeded(5):
        first = draw()
        with process.seeded(6):
            draw()
        second = draw()
    with process.seeded(5):
        assert (draw(), draw()) == (first, second)
    with process.seeded(5), torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert torch.rand(3).tolist() == first[0], "not torch's own sequence of that seed"


def test_one_thread_is_alone_and_may_be_so_twice():
    inside, most = [], []

    def work(_):
        with process.alone(), process.alone():
            inside.append(None)
            most.append(len(inside))
            threading.Event().wait(0.01)
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert most == [1] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_can_be_alone_though_another_thread_was_when_it_was_forked():
    started = threading.Event()

    def work():
        with process.alone():
            started.set()
            threading.Event().wait(0.2)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait(10)
    child = os.fork()
    if child == 0:
        free = process._lock.acquire(timeout=5)
        os._exit(0 if free else 1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
