"""Clients with ranks of their own: columns beyond them stay zero, and their adapters are PEFT's of that rank."""

import json
from dataclasses import replace

import datasets
import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file

import declora
from declora.codec import parse_codec
from declora.errors import ConfigError, ModelError
from declora.methods import METHODS, Part, Ranks, Stack, build_method
from declora.model import Layout
from declora.model.ranks import beyond
from declora.state import State
from declora.topology import Topology
from declora.wire import Wire
from federations import federation_of, gossip_of, rows_of
from tiny import tiny_bert, tiny_texts

RANKS = [1, 4, 2]


@pytest.fixture
def run(tokenizer):
    data = datasets.DatasetDict(train=tiny_texts(48), validation=tiny_texts(8))

    def simulate(**settings):
        few = {
            "model": tiny_bert(), "tokenizer": tokenizer, "data": data, "clients": 3, "rounds": 2, "local_steps": 2,
            "batch_size": 4, "learning_rate": 1e-2, "client_eval_samples": 0, "lora": {"r": 2}, "ranks": RANKS,
            "codec": "none",
        }  # fmt: skip
        return declora.simulate(**{**few, **settings})

    return simulate


def cut(result):
    """The numbers of each client beyond its rank, and those within, of A and B alone."""
    rows, of = result._outcome.rows, result._outcome.layout
    missing = beyond(of, RANKS, torch.device("cpu"))
    factors = torch.zeros(of.columns, dtype=torch.bool)
    for block in of:
        factors[block.start : block.stop] = block.kind != "head"
    return rows[missing], rows[~missing & factors]


def test_local_steps_leave_zeros_beyond_a_rank_as_they_are_by_themselves(run, monkeypatch):
    """A's row and B's column being zero, so are both gradients, and AdamW's steps, with weight decay, too."""
    for hook in ("after_step", "after_round"):
        monkeypatch.setattr(Ranks, hook, lambda *_: None)
    lacks, has = cut(run(method="local", rounds=3, weight_decay=0.1, lora={"r": 2, "lora_dropout": 0.1}))
    assert not lacks.any()
    assert has.count_nonzero() == has.numel()


class Noisy(declora.Part):
    """Moves every number of every adapter after each step, those beyond a client's rank, too."""

    name = "noisy"

    def after_step(self, state, step):
        state.adapter.add_(0.1)


class Doubled(declora.Part):
    """Sends each adapter twice, side by side, and keeps the first."""

    name = "doubled"

    def plan(self, plan, layout):
        return replace(plan, sent=plan.sent.repeated(2))

    def lifted(self, layout):
        return layout.twice("again.")

    def origin(self, state):
        return torch.cat([state.adapter] * 2, dim=1)

    def lift(self, state, plan):
        return self.origin(state)

    def refit(self, state, mixed, plan):
        state.adapter.copy_(mixed[:, : state.adapter.shape[1]])


@pytest.mark.parametrize(
    "method",
    ["dec-lora", "decaf", "fedavg+decaf:left=1", "tad-lora", Noisy(), Doubled(), ["decaf", Noisy()]],
    ids=["dec-lora", "decaf", "FlexLoRA", "tad-lora", "noisy", "doubled", "decaf, noisy"],
)
def test_nothing_is_left_beyond_a_rank_whatever_is_combined(run, method):
    lacks, has = cut(run(method=method))
    assert not lacks.any()
    assert has.abs().max() > 0.01


def layout(rank=4):
    return Layout.of({"x.lora_A.weight": torch.empty(rank, 6), "x.lora_B.weight": torch.empty(7, rank)})


def mixed(method, ranks):
    """Adapters before and after a round of gossip of a method, with the mixing matrix."""
    of = layout()
    stack = Stack([METHODS[method](), Ranks(ranks, exact=method == "decaf", keeps_sums=False)])
    rows = rows_of(len(ranks), of.columns)
    alone = gossip_of(federation_of(clients=len(ranks)), rows, method=stack, layout=of)
    start = rows.masked_fill(beyond(of, ranks, rows.device), 0.0)
    rows = start.clone()
    inbox = alone.round(0, rows)
    stack.after_round(alone.state, None, inbox)
    return start, rows, torch.from_numpy(Topology.build("ring", len(ranks)).weights(0).toarray())


def products(rows):
    (b, a), of = layout().pairs[0], layout()
    return of.view(rows, b.name).double() @ of.view(rows, a.name).double()


def test_decaf_gives_each_client_the_best_of_its_rank():
    ranks = [1, 2, 3, 4, 4]
    start, rows, w = mixed("decaf", ranks)
    u, s, v = torch.linalg.svd(torch.einsum("ij,jdk->idk", w, products(start)), full_matrices=False)
    for client, rank in enumerate(ranks):
        best = u[client][:, :rank] * s[client][:rank] @ v[client][:rank]
        torch.testing.assert_close(products(rows)[client], best, atol=1e-5, rtol=0)


def test_factors_are_averaged_with_zeros_and_cut():
    ranks = [1, 2, 3, 4, 4]
    start, rows, w = mixed("dec-lora", ranks)
    expected = (w.float() @ start).masked_fill(beyond(layout(), ranks, start.device), 0.0)
    torch.testing.assert_close(rows, expected)


class Watching(Part):
    """Remembers what clients begin with."""

    name = "watching"

    def extra(self, state, layout):
        return {"first": state.adapter.clone()}


def test_first_adapters_are_cut_before_other_parts_look_at_them():
    of, state = layout(), State(torch.ones(3, layout().columns))
    Stack([Watching(), Ranks([1, 2, 4], exact=False, keeps_sums=False)]).begin(state, of)
    for array in (state.adapter, state.room("watching")["first"]):
        assert array.sum(1).tolist() == [1 * 13, 2 * 13, 4 * 13]


@pytest.mark.parametrize(
    "lora",
    [
        {"r": 2, "lora_alpha": 6},
        {"r": 2, "lora_alpha": 6, "use_rslora": True},
        {"r": 2, "target_modules": ["query", "value"], "alpha_pattern": {"value": 5}},
    ],
    ids=str,
)
def test_peft_loads_each_client_at_its_own_rank_with_the_same_logits(run, lora, tmp_path):
    result = run(method="decaf", lora=lora)
    inputs = {"input_ids": torch.arange(12).reshape(2, 6) + 2}
    for client, rank in enumerate(RANKS):
        logits = []
        whole = declora.Adapter(result._outcome.rows[client], result._outcome.layout, result._outcome.lora)
        for adapter in (whole, result.client(client)):
            adapter.save_pretrained(tmp_path)
            model = peft.PeftModel.from_pretrained(tiny_bert(), tmp_path).eval()
            logits.append(model(**inputs).logits)
        own = model.peft_config["default"]
        assert own.r == rank
        weights = peft.get_peft_model_state_dict(model)
        assert {len(tensor) for name, tensor in weights.items() if "lora_A" in name} == {rank}
        # Sums of 4 products of which some are zeros, or of fewer: float32 logits of about 1, through two layers.
        torch.testing.assert_close(*logits, atol=1e-5, rtol=0)
        assert result.client(client).config.lora_alpha == own.lora_alpha
    assert result.average.config.r == max(RANKS)


def test_a_run_folder_has_each_client_at_its_own_rank(run, tmp_path):
    result = run(out=str(tmp_path / "run"))
    for name, rank in (("average", 4), *((f"client-{client:04d}", rank) for client, rank in enumerate(RANKS))):
        folder = tmp_path / "run" / "adapters" / name
        assert json.loads((folder / "adapter_config.json").read_text())["r"] == rank
        tensors = load_file(folder / "adapter_model.safetensors")
        assert {len(tensor) for key, tensor in tensors.items() if "lora_A" in key} == {rank}
    assert json.loads((tmp_path / "run" / "config.json").read_text())["ranks"] == RANKS
    assert result.facts()["ranks"] == "1, 4, 2"
    assert result.facts()["one message"].startswith("up to ")


def test_a_scale_is_the_same_for_all(run):
    result = run(method="local", lora={"r": 2, "lora_alpha": 6})
    assert [result.client(i).config.lora_alpha for i in range(3)] == [3, 12, 6]
    result = run(method="local", lora={"r": 4, "lora_alpha": 4, "use_rslora": True})
    assert [result.client(i).config.lora_alpha for i in range(3)] == pytest.approx([2, 4, 4 / 2**0.5])


def test_one_configuration_of_each_client_is_one_and_ranks():
    own = [peft.LoraConfig(r=r, lora_alpha=2 * r, target_modules=["query"]) for r in RANKS]
    config = declora.SimulationConfig(clients=3, lora=own)
    assert config.ranks == RANKS
    assert config.lora is own[1]
    tables = [{"r": r, "lora_dropout": 0.1} for r in RANKS]
    assert declora.SimulationConfig(clients=3, lora=tables).lora == tables[1]
    again = config.override(lora=tables[:2], clients=2)
    assert (again.lora, again.ranks) == (tables[1], RANKS[:2])
    assert declora.SimulationConfig(**{**again.describe(), "out": None}).ranks == RANKS[:2]


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"ranks": [4, 8]}, ConfigError, r"ranks=\[4, 8\] must be a list with a rank of each client, .* 3"),
        ({"ranks": 4}, ConfigError, "ranks=4 must be a list"),
        ({"ranks": []}, ConfigError, "must be a list"),
        ({"ranks": [4, 0, 4]}, ConfigError, r"ranks\[1\]=0"),
        ({"lora": [{"r": 2}] * 3, "ranks": RANKS}, ConfigError, "Set one of them"),
        ({"lora": [{"r": 2}] * 2}, ConfigError, "ranks=.2, 2. must be a list"),
        ({"lora": []}, ModelError, "must be a table"),
        ({"lora": [{"r": 2}, {"r": 0}, {}]}, ModelError, r"lora\[1\].r=0"),
        (
            {"lora": [{"r": 2}, {"r": 2, "target_modules": ["key"]}, {}]},
            ModelError,
            r"lora\[1\].target_modules=\['key'\], but that of lora\[0\] is None: clients may differ in r",
        ),
        ({"lora": [{"r": 2}, peft.LoraConfig(r=2), {}]}, ModelError, "must be all tables"),
        ({"lora": [peft.LoraConfig(r=2), {"r": 2}, {}]}, ModelError, "must be all tables"),
        ({"lora": [object()] * 3}, ModelError, "must be all tables"),
        ({"lora": [peft.LoraConfig(r="two")] * 3}, ConfigError, r"lora\[0\].r='two' must be a whole number"),
        (
            {"lora": [{"r": 2}, {"r": 2, "lora_alpha": 8}, {}]},
            ModelError,
            r"lora\[1\] has the scale 4 .*, but lora\[0\] has 1: .* Set lora\[1\].lora_alpha=2.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_ranks_that_cannot_be_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        declora.SimulationConfig(**{"clients": 3, **settings})


def test_layers_with_ranks_of_their_own_are_refused(run):
    lora = {"r": 2, "target_modules": ["query"], "rank_pattern": {"layer.0.attention.self.query": 1}}
    with pytest.raises(ModelError, match="gives layers ranks of their own"):
        run(lora=lora)
    with pytest.raises(ModelError, match=r"lora.r=65 is more than"):
        run(ranks=[1, 65, 2])


def test_that_a_mean_is_not_kept_is_said(run):
    def said(**settings):
        return [note for note in run(rounds=1, **settings).notes if "rank" in note]

    assert "method='decaf' averages products" in said(method="dec-lora")[0]
    assert said(method="decaf") == said(method="dec-lora", ranks=[2, 2, 2]) == said(method="local") == []
    with pytest.raises(ConfigError, match="push-sum' adds up what was sent"):
        run(mixer="push-sum")


@pytest.mark.parametrize("codec", ["none", "q4:block=64", "q2+rans+ef", "topk:fraction=0.5+choco", "powersgd+choco"])
@pytest.mark.parametrize(("method", "times"), [("dec-lora", 1), (Doubled(), 2)], ids=["dec-lora", "doubled"])
def test_a_message_carries_no_columns_that_its_sender_lacks(run, method, times, codec):
    """A ring of 3 is complete: each sends its frame to 2 others."""
    result = run(method=method, codec=codec, rounds=2)
    sent = result.clients.pivot(index="round", columns="client", values="bytes_sent").to_numpy()
    of = result._outcome.layout
    for client, rank in enumerate(RANKS):
        own = build_method(method).lifted(of.at_rank(rank))
        assert own.columns == times * len(result.client(client).row)
        bound = 2 * parse_codec(codec).for_shapes(own.shapes).frame_bytes(own.columns)
        assert (sent[:, client] <= bound).all() if "rans" in codec else (sent[:, client] == bound).all()
    assert (sent[:, 0] < sent[:, 2]).all()
    assert (sent[:, 2] < sent[:, 1]).all()


def test_what_is_not_sent_changes_nothing_that_is_exact(run, monkeypatch):
    def rows(**settings):
        return run(**settings)._outcome.rows

    cut = [rows(), rows(method="decaf"), rows(attack="sign-flip", mixer="median")]
    lists = Wire.__init__
    monkeypatch.setattr(Wire, "__init__", lambda *args, ranks, **more: lists(*args, **more))
    whole = [rows(), rows(method="decaf"), rows(attack="sign-flip", mixer="median")]
    assert all(map(torch.equal, cut, whole))


@pytest.mark.parametrize(
    "attack", ["crafted", "nan", "inf", "replay:delay=1", "replay:delay=0,target=1", "stale:delay=1"]
)
def test_lies_of_any_rank_are_carried_or_refused(run, attack):
    lacks, _ = cut(run(attack=attack, attackers=[2], mixer="median", topology="complete", codec="q4:block=64"))
    assert not lacks.any()


def test_one_client_that_stands_for_all_has_the_largest_rank(run):
    result = run(method="centralized")
    assert result.client(0).config.r == max(RANKS)
    assert np.isfinite(result.history["average_loss"].iloc[-1])
