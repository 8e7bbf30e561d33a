"""Distillation of language models: the most likely next words of public texts are exchanged, pooled and learned."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import declora
from declora import outputs
from declora.codec import IndexedCodec, parse_codec
from declora.config import SimulationConfig
from declora.errors import ConfigError, DataError, FrameError
from declora.methods.top_words import distillation, most_likely, pooled
from declora.prepare import plan_federation, prepare
from declora.run import Run
from tiny import tiny_bert, tiny_gpt2, tiny_texts, tiny_tokenizer

K, V = 4, 64
HEADER = 96


def plain(count, seed=0):
    return tiny_texts(count, seed=seed).remove_columns("label")


SETTINGS = {
    "model": tiny_gpt2(width=16), "tokenizer": tiny_tokenizer(), "data": plain(24), "eval_data": plain(4, seed=1),
    "public_data": plain(3, seed=2), "task": "causal-lm", "clients": 3, "rounds": 2, "local_steps": 1, "batch_size": 4,
    "codec": "none", "topology": "complete", "method": f"kd-topk:k={K}", "lora": {"r": 2}, "client_eval_samples": 0,
    "warmup": 0.0, "learning_rate": 0.05, "progress": False,
}  # fmt: skip


def rows_of(result, clients=3):
    return torch.stack([result.client(client).row for client in range(clients)])


# What is learned


def softmax(values):
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_the_loss_and_its_gradient_are_those_of_the_formula_in_float64():
    rng, tau = np.random.default_rng(0), 2.5
    logits, wanted = 3 * rng.standard_normal((5, V)), 0.2 * rng.random((5, K))
    words = np.stack([rng.permutation(V)[:K] for _ in range(5)])
    z = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    found = distillation(torch.from_numpy(words), torch.tensor(wanted, dtype=torch.float32), z, tau)
    found.sum().backward()
    q = softmax(logits / tau)
    named, others = np.take_along_axis(q, words, 1), 1 - np.take_along_axis(q, words, 1).sum(1)
    rest = 1 - wanted.sum(1)
    expected = tau**2 * ((wanted * np.log(wanted / named)).sum(1) + rest * np.log(rest / others))
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-4)
    target = q * (rest / others)[:, None]  # the bucket's probability goes to its words as they are
    np.put_along_axis(target, words, wanted, 1)
    np.testing.assert_allclose(z.grad, tau * (q - target), atol=1e-5)


def test_of_what_one_makes_itself_nothing_is_learned_and_buckets_see_no_more_than_all_words():
    draws = torch.Generator().manual_seed(0)
    z, other = (3 * torch.randn(7, V, generator=draws) for _ in range(2))
    words, wanted = most_likely(z / 2, K).split(K, dim=1)
    assert (words[:, 0] == z.argmax(dim=1)).all()
    own = z.clone().requires_grad_()
    found = distillation(words.long(), wanted, own, 2.0)
    found.sum().backward()
    # Probabilities are rounded to 2^-24 of 1: so is the loss, and the gradient by tau more.
    assert found.abs().max() < 1e-5
    assert own.grad.abs().max() < 1e-5
    whole = 4 * torch.nn.functional.kl_div(
        (other / 2).log_softmax(1), (z / 2).log_softmax(1), reduction="none", log_target=True
    ).sum(dim=1)  # fmt: skip
    buckets = distillation(words.long(), wanted, other, 2.0)
    assert (buckets > 0).all()
    assert (buckets <= whole).all()


@given(seed=st.integers(0, 10**6), clients=st.integers(1, 4), hostile=st.booleans())
def test_pooled_words_are_the_most_likely_of_the_weighted_mean(seed, clients, hostile):
    rng, places = np.random.default_rng(seed), 3
    said = np.empty((clients, 2, places, K), dtype=np.float32)
    said[:, 0] = rng.permuted(np.tile(np.arange(9.0), (clients, places, 1)), axis=2)[:, :, :K]
    said[:, 1] = rng.random((clients, places, K)) / K
    if hostile:
        said[1:, 0] = rng.choice([-3e38, -1.0, 2.0, 2.0, 7.0, 9.0, 3e38], said[1:, 0].shape)
        said[1:, 1] = rng.choice([-3e38, -1.0, 0.4, 1.0, 3e38], said[1:, 1].shape)
    shares = rng.dirichlet(np.ones(clients))
    words, chances = pooled(said, shares, 9)
    for place in range(places):
        mean = np.zeros(9)
        for client, share in enumerate(shares):
            for word, chance in zip(*said[client, :, place].astype(np.float64), strict=True):
                if 0 <= word < 9:
                    mean[int(word)] += share * np.clip(chance, 0, 1)
        np.testing.assert_allclose(chances[place], np.sort(mean)[::-1][:K], atol=1e-6)
        assert len(set(words[place].tolist())) == K
        np.testing.assert_allclose(mean[words[place].astype(int)], chances[place], atol=1e-6)


# What is sent


@pytest.mark.parametrize(("most", "width"), [(200, 1), (50_000, 2), (200_000, 3)])
def test_words_arrive_as_they_are_in_as_few_bytes_as_the_largest_needs(most, width):
    rng, inner = np.random.default_rng(0), parse_codec("q4")
    codec, n = IndexedCodec(inner), 90
    x = np.r_[rng.integers(0, most, n - 1), most, rng.random(n)].astype(np.float32)
    payload = codec.encode(x, seed=1, round=2, client=3)
    assert len(payload) == 1 + width * n + inner.payload_bytes(n) <= codec.payload_bytes(2 * n)
    z = codec.decode(payload, 2 * n)
    np.testing.assert_array_equal(z[:n], x[:n])
    np.testing.assert_array_equal(z[n:], inner.decode(inner.encode(x[n:], seed=1, round=2, client=3), n))


@given(payload=st.binary(max_size=40), n=st.integers(0, 12))
def test_any_bytes_are_refused_or_are_words_and_finite_numbers(payload, n):
    codec = IndexedCodec(parse_codec("q4"))
    try:
        z = codec.decode(payload, 2 * n)
    except FrameError:
        return
    assert z.shape == (2 * n,)
    assert np.isfinite(z).all()
    assert ((z[:n] >= 0) & (z[:n] < 2**24) & (z[:n] % 1 == 0)).all()


def test_what_a_liar_has_for_words_goes_as_whole_numbers():
    codec = IndexedCodec(parse_codec("none"))
    x = np.array([-5, 3e38, 2.4, 1, 1, 1], dtype=np.float32)
    assert codec.decode(codec.encode(x, seed=0, round=0, client=0), 6)[:3].tolist() == [0, 2**24 - 1, 2]


# Runs


@pytest.fixture(scope="module")
def run():
    """A run of which one round is over, with messages that lose nothing."""
    config = SimulationConfig(**SETTINGS | {"rounds": 1, "ranks": [1, 2, 4], "lora": {}})
    found = Run(config, prepare(config), plan_federation(config))
    return found, found.execute()


def test_on_a_complete_graph_the_targets_are_the_mean_of_what_each_model_says_of_each_text_alone(run):
    found, outcome = run
    words, chances = found.state.room("kd-topk")["targets"].view(3, 2, -1, K).unbind(1)
    said = []
    with found.installed(), torch.inference_mode():
        for row in outcome.rows:  # one text at a time, by a client alone
            found.bank.bind(row[None])
            for text in SETTINGS["public_data"]["text"]:
                given = SETTINGS["tokenizer"](text + "[SEP]", return_tensors="pt")
                with found.bank.owners.computing(1):
                    logits = found.material.base.model(input_ids=given["input_ids"]).logits[0, :-1]
                said.append((logits.double() / 2).softmax(dim=1))
    p = torch.cat(said).view(3, -1, V)
    sent = p * (p >= p.topk(K, dim=2).values[:, :, -1:])  # of each client's k words
    mean = sent.mean(dim=0).topk(K, dim=1)
    for client in range(3):
        np.testing.assert_allclose(chances[client], mean.values, atol=1e-6)
        np.testing.assert_allclose(sent.mean(0).gather(1, words[client].long()), mean.values, atol=1e-6)


def test_a_message_has_k_words_and_probabilities_of_each_place_whatever_the_rank(run):
    found, outcome = run
    places = sum(
        len(SETTINGS["tokenizer"](text + "[SEP]")["input_ids"]) - 1 for text in SETTINGS["public_data"]["text"]
    )
    message = HEADER + 1 + places * K * (1 + 4)  # a vocabulary of 64
    assert outcome.history["bytes_sent"].tolist() == [3 * 2 * message]
    assert found.state.room("kd-topk")["targets"].shape == (3, 2 * places * K)


def test_without_weight_it_is_local_training_to_the_bit_and_with_it_clients_learn_of_each_other():
    alone, local, together = (
        rows_of(declora.simulate(**SETTINGS | {"method": method}))
        for method in ("kd-topk:weight=0", "local", "kd-topk")
    )
    assert torch.equal(alone, local)
    assert (together - local).norm() > 1e-4 * local.norm()


def test_a_run_of_answers_with_q4_that_was_stopped_ends_as_one_never_stopped(tmp_path, monkeypatch):
    """Public texts are prompts with answers, too; places are those of the answers."""
    monkeypatch.setattr("declora.simulation.write_run", write_adapters)
    rows = plain(24).rename_column("text", "prompt").add_column("completion", plain(24, seed=5)["text"])
    pairs = {"data": rows, "eval_data": rows.select(range(4)), "public_data": rows.select(range(3))}
    usual = SETTINGS | pairs | {"codec": "q4", "schedule": "constant"}
    whole = declora.simulate(**usual | {"rounds": 3})
    declora.simulate(**usual, out=tmp_path / "run", checkpoint_every=1)
    given = {name: usual[name] for name in ("model", "tokenizer", *pairs)}
    assert torch.equal(rows_of(whole), rows_of(declora.resume(tmp_path / "run", rounds=3, **given)))


def write_adapters(folder, result, label, log):
    folder.write_folders(outputs.adapter_folders(result))
    log.complete()


def test_liars_about_words_leave_what_is_finite():
    result = declora.simulate(**SETTINGS | {"attack": "gaussian", "attackers": [2], "codec": "q4"})
    assert rows_of(result).isfinite().all()


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixer": "median"}, "compares numbers that mean the same in all messages"),
        ({"codec": "q4+choco"}, "remembers what was sent of each number"),
        ({"method": "fedavg+kd-topk"}, "a server's answer"),
        ({"method": "local+kd-topk"}, "never talk"),
        ({"method": "kd-topk:k=0"}, "k='?0'? must be a whole number"),
        ({"public_data": None}, "public_data"),
    ],
    ids=str,
)
def test_what_it_cannot_do_is_refused_before_anything_is_loaded(settings, message):
    with pytest.raises(ConfigError, match=message):
        plan_federation(SimulationConfig(**SETTINGS | {"data": "nowhere.csv", "model": "nowhere"} | settings))


def test_classifiers_a_k_of_all_words_and_public_texts_of_nothing_are_refused():
    classes = {"model": tiny_bert(), "data": tiny_texts(8), "task": None, "eval_data": None}
    with pytest.raises(ConfigError, match=r"next words .* but the task of the data is classification. Use method='kd'"):
        prepare(SimulationConfig(**SETTINGS | classes))
    config = SimulationConfig(**SETTINGS | {"method": f"kd-topk:k={V}"})
    with pytest.raises(ConfigError, match="k=64 must be less than the 64 words of the model"):
        Run(config, prepare(config))
    rows, long = ([{"prompt": words, "completion": "w2"}] * 4 for words in ("w1", "w1 " * 20))
    pairs = {"data": rows, "eval_data": rows, "public_data": long, "max_length": 16}
    with (
        pytest.raises(DataError, match="public_data has no row with a token to predict"),
        pytest.warns(UserWarning, match="4 of 4 public rows are left out"),
    ):
        prepare(SimulationConfig(**SETTINGS | pairs))
