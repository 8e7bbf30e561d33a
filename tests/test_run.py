"""A run: whose schedule is how long, what a round records, and what is evaluated when."""

import datasets
import pytest
import torch

import declora
from declora.errors import ConfigError, TrainingError
from tiny import tiny_bert, tiny_gpt2, tiny_texts


@pytest.fixture
def run(tokenizer, texts):
    """Returns `simulate` with tiny defaults: clients that never talk, each a group of its own."""

    def simulate(**settings):
        defaults = {
            "model": tiny_bert(), "tokenizer": tokenizer, "data": texts, "clients": 3, "rounds": 4, "local_steps": 2,
            "batch_size": 4, "lora": {"r": 2, "target_modules": ["query", "value"]}, "method": "local",
            "learning_rate": 1e-2, "group_size": 1, "client_eval_samples": 7,
        }  # fmt: skip
        if "local_epochs" in settings:
            del defaults["local_steps"]
        return declora.simulate(**{**defaults, **settings})

    return simulate


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_client_with_less_data_has_a_schedule_of_its_own_length(run, schedule):
    sets = [tiny_texts(count, seed=seed) for seed, count in enumerate((8, 20, 33))]
    settings = {"local_epochs": 1, "eval_data": tiny_texts(20, seed=9), "schedule": schedule, "warmup": 0.25}
    together = run(data=sets, **settings)
    alone = run(data=sets[:1], clients=1, **settings)
    assert together.clients["local_steps"].tolist() == [2, 5, 9] * 4
    assert torch.equal(together.client(0).row, alone.client(0).row)


def test_the_learning_rate_of_a_round_is_that_of_its_first_step(run):
    history = run(warmup=0.25, client_eval_samples=0).history
    # 8 steps, of which 2 rise.
    assert history["learning_rate"].tolist() == pytest.approx([0.0, 1e-2, 1e-2 * 4 / 6, 1e-2 * 2 / 6])


def test_a_round_records_losses_and_samples_of_clients_and_of_all(run):
    result = run(batch_size=5)
    for t, record in result.history.set_index("round").iterrows():
        own = result.clients.query(f"round == {t}")
        assert own["client"].tolist() == [0, 1, 2]
        assert record["train_loss"] == pytest.approx(own["train_loss"].mean(), abs=1e-12)
        assert own["samples_seen"].tolist() == [10, 10, 10]
        assert (record["samples_seen"], record["samples_total"]) == (30, 30 * t)
        assert own["bytes_sent"].tolist() == [0, 0, 0]
        assert record["seconds_train"] > 0


@pytest.mark.parametrize(
    ("rounds", "every", "evaluated"), [(5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 9, [3]), (2, 1, [1, 2])]
)
def test_every_so_many_rounds_and_the_last_are_evaluated(run, rounds, every, evaluated):
    result = run(rounds=rounds, eval_every=every, local_steps=1)
    measured = result.history.dropna(subset=["average_accuracy"])
    assert measured["round"].tolist() == evaluated
    assert result.clients.dropna(subset=["accuracy"])["round"].unique().tolist() == evaluated


def test_the_spread_of_the_clients_is_mean_least_and_largest(run):
    # Of one class each, clients learn to say that one; of 7 samples the two classes cannot have as many.
    result = run(rounds=2, eval_every=1, partition="shards:1", learning_rate=5e-2, client_eval_samples=7)
    own = result.clients.query("round == 2")["accuracy"]
    last = result.history.iloc[-1]
    found = [last[f"clients_accuracy_{which}"] for which in ("mean", "min", "max")]
    assert found == pytest.approx([own.mean(), own.min(), own.max()])
    assert own.min() < own.max()


def test_the_clients_are_not_evaluated_where_no_samples_are_asked_for(run):
    result = run(client_eval_samples=0)
    assert "accuracy" not in result.clients
    assert not [name for name in result.history if name.startswith("clients_")]
    assert result.history["average_accuracy"].notna().any()


def test_moments_are_forgotten_at_the_start_of_each_round_where_asked_for(run):
    """With a momentum of 0.9 and one step a round, forgetting leaves plain SGD."""
    sgd = {"optimizer": "sgd", "schedule": "constant", "warmup": 0.0, "local_steps": 1, "clip_norm": None}
    forgetful, plain = run(**sgd, momentum=0.9, reset_moments=True), run(**sgd)
    assert torch.equal(forgetful.average.row, plain.average.row)
    assert not torch.equal(run(**sgd, momentum=0.9).average.row, plain.average.row)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "adam"}, "optimizer='adam' is not known"),
        ({"mixer": "krum", "method": "dec-lora"}, "client 0 has 2 neighbours"),
        (
            {"metric": "exact_match", "model": tiny_gpt2(), "task": "causal-lm", "lora": {"r": 2}},
            "needs generated answers",
        ),
    ],
    ids=["after its layers were exchanged", "by the graph", "by the metric"],
)
def test_what_is_refused_is_refused_before_the_first_round_and_gives_the_model_back(
    run, monkeypatch, settings, message
):
    monkeypatch.setattr("declora.run.Run._round", lambda *_: pytest.fail("a round was run"))
    settings = {"model": tiny_bert(), **settings}
    modules = dict(settings["model"].named_modules())
    with pytest.raises(ConfigError, match=message):
        run(**settings)
    assert dict(settings["model"].named_modules()) == modules


def test_a_round_counts_the_messages_that_were_refused_where_it_goes_on_without_them(run):
    settings = {"method": "dec-lora", "topology": "complete", "attack": "nan", "attackers": [1], "mixer": "clipped"}
    assert run(rounds=2, local_steps=1, **settings).history["frames_refused"].tolist() == [1, 1]
    assert "frames_refused" not in run(rounds=2, local_steps=1, method="dec-lora").history


@pytest.mark.parametrize("where", ["gossip.Gossip.round", "train.evaluator.Evaluator.average"])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_is_one_error_and_the_model_has_its_layers_back(run, monkeypatch, where, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"declora.{where}", fail)
    model = tiny_bert()
    with pytest.raises(TrainingError, match=r"memory ran out in round 1\. Lower group_size \(here 1\)"):
        run(model=model, eval_every=1)
    assert type(model.classifier) is torch.nn.Linear


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_memory_that_runs_out_before_the_first_round_is_the_same_error(run, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("declora.run.LocalTrainer.run", fail)
    model = tiny_bert()
    with pytest.raises(TrainingError, match=r"memory ran out.*\. Use a smaller model"):
        run(model=model)
    assert type(model.classifier) is torch.nn.Linear


def test_prompts_are_packed_whole_and_plain_text_as_a_stream(run):
    plain = datasets.Dataset.from_dict({"text": ["w1 w2 w3 w4 w5 w6"] * 60})
    pairs = datasets.Dataset.from_dict({"prompt": ["w1 w2 w3"] * 60, "completion": ["w4 w5 w6"] * 60})
    settings = {"packing": True, "max_length": 16, "local_epochs": 1, "batch_size": 1, "lora": {"r": 2}, "rounds": 1}
    stream, whole = (run(data=data, model=tiny_gpt2(), eval_fraction=0.1, **settings) for data in (plain, pairs))
    # 18 texts a client: of 9 tokens, 162 in rows of 16, the last of which has 2; of 8 tokens, two in a row.
    assert stream.clients["local_steps"].tolist() == [11] * 3
    assert whole.clients["local_steps"].tolist() == [9] * 3
