"""Distillation: what is exchanged are logits of public texts, and clients learn from their mean and nothing else."""

import numpy as np
import pytest
import torch

import declora
from declora.codec import parse_codec
from declora.config import SimulationConfig
from declora.errors import ConfigError, DataError
from declora.methods import build_method
from declora.methods.kd import distillation
from declora.prepare import plan_federation, prepare
from declora.run import Run
from tiny import tiny_bert, tiny_gpt2, tiny_texts

PUBLIC = tiny_texts(6, seed=2)
HEADER = 96


def rows_of(result):
    return torch.stack([result.client(client).row for client in range(4)])


def softmax(values):
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_loss_and_its_gradient_are_those_of_the_formula_in_float64():
    rng = np.random.default_rng(0)
    targets, logits, tau = 3 * rng.standard_normal((5, 4)), 3 * rng.standard_normal((5, 4)), 2.5
    z = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    found = distillation(torch.tensor(targets, dtype=torch.float32), z, tau)
    found.sum().backward()
    p, q = softmax(targets / tau), softmax(logits / tau)
    np.testing.assert_allclose(found.detach(), tau**2 * (p * np.log(p / q)).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(z.grad, tau * (q - p), atol=1e-5)


def test_of_what_one_makes_itself_nothing_is_learned():
    z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = distillation(z.detach(), z, 2.0)
    found.sum().backward()
    assert not found.any()
    # Of float32 probabilities the sum is 1 within a few 2^-24, and the gradient is tau^2 p / tau times that.
    assert z.grad.abs().max() < 1e-6


def test_without_weight_it_is_local_training_to_the_bit_whatever_the_others_say(tiny_run):
    local = tiny_run(method="local", rounds=2)
    alone = tiny_run(method="kd:weight=0", rounds=2, public_data=PUBLIC)
    assert torch.equal(rows_of(local), rows_of(alone))


def test_clients_that_are_alike_learn_from_each_other_nothing_and_others_do(tiny_run):
    settings = {
        "rounds": 2, "local_steps": 1, "optimizer": "sgd", "learning_rate": 1.0, "warmup": 0.0, "clip_norm": None,
        "schedule": "constant", "public_data": PUBLIC,
    }  # fmt: skip
    like, unlike = [tiny_texts(4)] * 4, [tiny_texts(4, seed=client) for client in range(4)]
    moved = []
    for shards in (like, unlike):
        data = {"data": shards, "eval_data": tiny_texts(4)}
        runs = [tiny_run(method=f"kd:weight={weight}", **data, **settings) for weight in (0, 1)]
        moved.append(float((rows_of(runs[0]) - rows_of(runs[1])).norm() / rows_of(runs[0]).norm()))
    # One's own logits in passes of other shapes: rounding of float32, some 1e-7 of what is computed.
    assert moved[0] < 1e-6 < 1e-4 < moved[1]


@pytest.fixture
def run(tokenizer):
    """A run of which one round is over, with messages that lose nothing."""

    def begun(**settings):
        config = SimulationConfig(
            model=tiny_bert(labels=3), tokenizer=tokenizer, data=tiny_texts(24, labels=3), clients=3, rounds=1,
            local_steps=1, batch_size=4, codec="none", topology="complete", method="kd", public_data=PUBLIC,
            lora={"r": 4, "target_modules": ["query"]}, client_eval_samples=0, warmup=0.0, **settings,
        )  # fmt: skip
        federation = plan_federation(config)
        found = Run(config, prepare(config), federation)
        return found, found.execute()

    return begun


def test_on_a_complete_graph_the_targets_are_the_mean_of_what_each_model_makes_of_each_text_alone(run, tokenizer):
    found, outcome = run(ranks=[1, 2, 4])
    targets = found.state.room("kd")["targets"].view(3, len(PUBLIC), 3)
    logits = []
    with found.installed(), torch.inference_mode():
        for row in outcome.rows:  # one text at a time, by a client alone
            found.bank.bind(row[None])
            for text in PUBLIC["text"]:
                given = tokenizer(text, return_tensors="pt")
                with found.bank.owners.computing(1):
                    logits.append(found.material.base.model(**given).logits[0].double())
    mean = torch.stack(logits).view(3, len(PUBLIC), 3).mean(dim=0)
    assert mean.abs().max() > 0.1
    for client in range(3):
        np.testing.assert_allclose(targets[client], mean, atol=1e-5)  # float32 logits of some units


@pytest.mark.parametrize("codec", ["none", "topk:fraction=0.5+ef21"])
def test_a_message_has_a_number_for_each_public_text_and_class_whatever_the_rank(tiny_run, codec):
    result = tiny_run(method="kd", rounds=1, public_data=PUBLIC, public_samples=5, codec=codec, lora={"r": 4})
    message = parse_codec(codec).for_shapes([(5, 2)]).frame_bytes(5 * 2)
    assert (result.history["bytes_sent"] == 4 * 2 * message).all()  # a ring
    if codec == "none":
        assert message == HEADER + 4 * 5 * 2


def test_lies_in_logits_are_kept_out_by_a_robust_mixer(tiny_run):
    settings = {"rounds": 1, "topology": "complete", "clients": 5, "public_data": PUBLIC, "method": "kd"}
    attacked = tiny_run(**settings, attack="nan", attackers=[4], mixer="median")
    assert attacked.history["frames_refused"].tolist() == [1]


def test_dropout_of_public_texts_is_drawn_from_the_seed(tiny_run):
    settings = {
        "method": "kd:batch=20", "rounds": 2, "local_steps": 1, "public_data": PUBLIC, "base_dropout": True,
        "lora": {"r": 2, "target_modules": ["query"], "lora_dropout": 0.5},
    }  # fmt: skip
    assert torch.equal(*(rows_of(tiny_run(**settings)) for _ in range(2)))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"method": "kd"}, "public_data"),
        ({"method": "local+kd", "public_data": PUBLIC}, "never talk"),
        ({"method": "kd+decaf", "public_data": PUBLIC}, "both 'kd:.*' and 'decaf' say how clients' values"),
    ],
)
def test_what_kd_cannot_do_is_refused_before_anything_is_loaded(settings, named):
    with pytest.raises(ConfigError, match=named):
        plan_federation(SimulationConfig(data="nowhere.csv", model="nowhere", **settings))


def test_public_texts_have_the_columns_of_the_data_and_are_of_classifiers(tokenizer):
    usual = {"model": tiny_bert(), "tokenizer": tokenizer, "data": tiny_texts(8), "method": "kd"}
    other = PUBLIC.rename_column("text", "sentence")
    with pytest.raises(DataError, match=r"public_data has no column 'text'.*Rename"):
        prepare(SimulationConfig(**usual, public_data=other))
    plain = {"model": tiny_gpt2(), "data": tiny_texts(8).remove_columns("label"), "task": "causal-lm"}
    with pytest.raises(ConfigError, match=r"the task of the data is causal-lm. Use method='kd' for .*'kd-topk' for"):
        prepare(SimulationConfig(**usual | plain, public_data=PUBLIC))


def test_public_texts_are_drawn_by_the_seed_and_said_and_their_labels_are_not_read(tokenizer):
    usual = {"model": tiny_bert(), "tokenizer": tokenizer, "data": tiny_texts(8), "method": "kd", "public_samples": 4}
    labelled = PUBLIC.remove_columns("label").add_column("label", ["never seen"] * len(PUBLIC))
    found = [prepare(SimulationConfig(**usual, public_data=data)) for data in (PUBLIC, labelled)]
    assert len(found[0].public) == 4
    np.testing.assert_array_equal(found[0].public.ids, found[1].public.ids)
    assert "The public texts are 4 of 6 of public_data, drawn with seed=0." in found[0].text.notes


def test_what_is_not_read_is_said_and_which_scores_count():
    unread, read = (
        plan_federation(SimulationConfig(public_data=PUBLIC, method=method))[0].notes for method in ("dec-lora", "kd")
    )
    assert unread == ("public_data is not read by method='dec-lora'.",)
    assert ["its own scores are what counts" in note for note in read] == [True]


def test_options_are_written_as_they_are_read():
    assert str(build_method("kd:tau=1,weight=0.5")) == "kd:tau=1,weight=0.5,batch=8"
    for wrong in ("kd:tau=0", "kd:weight=-1", "kd:batch=0"):
        with pytest.raises(ConfigError):
            declora.SimulationConfig(method=wrong)
