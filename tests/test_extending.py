"""The examples of docs/extending.md, run as they are printed, with a tiny model and little data."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import declora
from declora import testing
from tiny import tiny_bert

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
EXAMPLES = dict(re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M))
CLIENTS, ROUNDS = 4, 3


@pytest.fixture
def run(texts, tokenizer, monkeypatch):
    """Runs an example with everything that it leaves to the defaults tiny; returns its names."""
    tiny = partial(
        declora.simulate, model=tiny_bert(), data=texts, tokenizer=tokenizer, clients=CLIENTS, rounds=ROUNDS,
        local_steps=1, batch_size=4, client_eval_samples=8, lora={"r": 2, "target_modules": ["query", "value"]},
    )  # fmt: skip

    def run(title, **settings):
        monkeypatch.setattr(declora, "simulate", partial(tiny, **settings))
        names = {}
        exec(compile(EXAMPLES[title], f"{PAGE.name}: {title}", "exec"), names)
        return names

    return run


def test_each_example_has_at_most_thirty_lines():
    assert {"A codec", "A mixer", "A topology", "A partition", "A method", "A callback"} == EXAMPLES.keys()
    assert all(len(code.splitlines()) <= 30 for code in EXAMPLES.values())


def test_the_codec_of_the_page_sends_its_own_bytes_and_keeps_its_word(run):
    names = run("A codec")
    result, columns = names["result"], names["result"].client(0).row.numel()
    message = 96 + 4 + 2 * -(-columns // 8)
    assert result.federation.codec.frame_bytes(columns) == message
    assert (result.history["bytes_sent"] == 2 * CLIENTS * message).all()  # a ring
    assert result.config.describe()["codec"] == "<Ternary>"
    assert result.facts()["codec"] == "Ternary"
    testing.check_codec(names["Ternary"]()).raise_if_failed()


def test_the_mixer_of_the_page_keeps_the_mean_and_has_its_options_in_the_report(run):
    names = run("A mixer")
    assert names["result"].facts()["mixer"] == "AlikeGossip(radius=0.5)"
    assert names["result"].config.describe()["mixer"] == "<AlikeGossip(radius=0.5)>"
    rows = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32)
    before, z = rows.copy(), rows + np.float32(0.1)
    names["AlikeGossip"](radius=5.0).mix(declora.Topology.build("ring", 4).weights(0), z, rows)
    # Differences of float32 numbers of up to 4, a few terms each.
    np.testing.assert_allclose(rows.mean(0), before.mean(0, dtype=np.float64), atol=4e-6)
    assert np.abs(rows - before).max() > 0.1


def test_the_topology_of_the_page_is_a_matching_in_every_round(run):
    topology = run("A topology")["result"].federation.topology
    assert topology.name == "RandomMatching(period=20)"
    testing.check_matrix(topology).raise_if_failed()
    assert topology.period == 20
    for t in range(topology.period):
        assert sorted(client for client, _ in topology.edges(t).tolist()) == list(range(CLIENTS))


def test_the_partition_of_the_page_sorts_by_length(run):
    result = run("A partition")["result"]
    assert result.partition.name == "by_length"
    assert result.config.describe()["partition"] == "<by_length>"
    assert [len(shard) for shard in result.partition.shards] == [24] * 4


def test_the_method_of_the_page_pulls_back_to_where_a_round_began(run):
    """With plain SGD the pull of mu shortens each later step of a round; the first step of each begins where it is."""
    settings = {"optimizer": "sgd", "schedule": "constant", "warmup": 0.0, "clip_norm": None, "local_steps": 1}
    names = run("A method", **settings)
    plain = declora.simulate(method="ffa-lora")
    assert torch.equal(names["result"].client(0).row, plain.client(0).row)
    pulled, free = (run("A method", **settings | {"local_steps": 3})["result"], declora.simulate(method="ffa-lora"))
    assert not torch.equal(pulled.client(0).row, free.client(0).row)
    assert names["result"].config.describe()["method"] == ["ffa-lora", "<fedprox:mu=0.1>"]


def test_the_callback_of_the_page_hears_of_evaluations_and_ends_a_run(run, tmp_path, capsys):
    names = run("A callback", eval_every=1)
    result, callback = names["result"], names["result"].config.callbacks[0]
    assert callback.best == result.history["average_accuracy"].max()
    assert f"dec-lora: {callback.best:.3f} at best" in capsys.readouterr().out
    assert result.config.describe()["callbacks"] == ["<Patience(evaluations=5)>"]
    settings = {"eval_every": 1, "out": tmp_path / "run", "checkpoint_every": 1, "learning_rate": 1e-9, "rounds": 5}
    with pytest.raises(
        declora.CallbackError, match=r"'Patience.*evaluations=1.*on_evaluation, in round 2 of 'dec-lora'"
    ):
        declora.simulate(callbacks=[names["Patience"](1)], **settings)
    objects = {name: declora.simulate.keywords[name] for name in ("model", "data", "tokenizer")}
    ended = declora.resume(tmp_path / "run", rounds=2, callbacks=None, **objects)
    assert len(ended.history) == 2
    assert (tmp_path / "run" / "report.html").exists()
    found = declora.verify(tmp_path / "run", **objects)
    assert found.holds
    assert found.rounds == {"dec-lora": 2}


def test_what_is_written_of_objects_can_be_read_again_but_not_run(run, tmp_path):
    run("A codec", out=str(tmp_path / "run"))
    with pytest.raises(declora.ConfigError, match="codec='<Ternary>' is not known"):
        declora.SimulationConfig().override(codec="<Ternary>")
    assert "Ternary" in (tmp_path / "run" / "report.html").read_text()


def test_objects_are_named_by_their_class_where_they_do_not_fit_another_setting():
    names = {}
    exec(EXAMPLES["A codec"].rpartition("\n\n\n")[0], names)
    codec = names["Ternary"]()
    codec.memory = "choco"
    with pytest.raises(declora.ConfigError, match=r"codec='Ternary\+choco' keeps public copies at fixed neighbours"):
        declora.simulate(codec=codec, topology="one-peer-exponential")
