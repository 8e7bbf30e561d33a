"""Whether clients share passes: tried on the model, and none of them sees in its result who was beside it."""

import copy
from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
import transformers
from torch import nn

from declora.config import SimulationConfig
from declora.errors import ModelError
from declora.model.batched import BatchedLinear, BatchedLora
from declora.model.owners import RowOwners
from declora.model.row_axes import row_axis
from declora.prepare import prepare
from declora.run import Run
from declora.train.tokens import tokenize
from tiny import tiny_bert, tiny_gpt2, tiny_texts
from tiny_families import compare, tiny_model


def run_of(model, tokenizer, data=None, **settings):
    """A run of three clients that do not talk to each other; on a CPU, where the same bits are promised."""
    few = {"clients": 3, "rounds": 1, "local_steps": 2, "batch_size": 4, "method": "local", "learning_rate": 0.01}
    data = datasets.DatasetDict(train=tiny_texts(36), validation=tiny_texts(6, seed=1)) if data is None else data
    evaluation = {} if isinstance(data, datasets.DatasetDict) else {"eval_data": data[0]}
    lora = {"r": 2, **settings.pop("lora", {})}
    config = SimulationConfig(
        model=model, tokenizer=tokenizer, data=data, client_eval_samples=0, lora=lora, device="cpu", **evaluation,
        **few | settings,
    )  # fmt: skip
    return Run(config, prepare(config))


def of_one_length(seed):
    texts = tiny_texts(12, seed=seed)
    return texts.map(lambda row: {"text": " ".join((row["text"].split() * 6)[:10])})


ISOLATED = {
    "bert, packed": (tiny_bert, {}),
    "bert, padded": (tiny_bert, {"unpad": False}),
    "bert, padded, with its own dropout": (tiny_bert, {"unpad": False, "base_dropout": True}),
    "gpt2": (lambda: tiny_gpt2(transformers.GPT2ForSequenceClassification), {}),
    "tokens first": (lambda: tiny_model("longformer", "classification"), {}),
    "tokens first, parameters without a layer": (lambda: tiny_model("xlnet", "classification"), {}),
    "positions of all sequences": (lambda: tiny_model("deberta-v2", "classification"), {}),
    "masks of its own": (lambda: tiny_model("deberta-v2", "classification"), {"lora": {"lora_dropout": 0.5}}),
    "tokens first, masks of its own": (
        lambda: tiny_model("longformer", "classification"),
        {"lora": {"lora_dropout": 0.5}},
    ),
    "hybrid": (lambda: tiny_model("jamba", "classification"), {}),
}


@pytest.mark.parametrize("name", ISOLATED)
def test_a_clients_adapter_has_the_same_bits_whatever_the_others_texts_are(name, tokenizer):
    make, settings = ISOLATED[name]
    rows = []
    for seed in (6, 8):
        data = [of_one_length(5), of_one_length(seed), of_one_length(seed + 1)]
        rows.append(run_of(make(), tokenizer, data, **copy.deepcopy(settings)).execute().rows)
    assert torch.equal(rows[0][0], rows[1][0])
    assert not torch.equal(rows[0][1], rows[1][1])


def with_blocks(change):
    """A tiny BERT whose blocks first do `change` to their input `[R, T, H]`."""

    class Block(transformers.models.bert.modeling_bert.BertLayer):
        def forward(self, hidden_states, *others, **kwargs):
            return super().forward(change(hidden_states), *others, **kwargs)

    model = tiny_bert()
    model.bert.encoder.layer = nn.ModuleList([Block(model.config) for _ in range(2)]).eval()
    return model


MIXED = {
    "the texts beside it": lambda x: x + 0.1 * x.roll(1, dims=0),
    "the padding beside it": lambda x: x + 0.1 * x.mean(dim=1, keepdim=True),
}


@pytest.mark.parametrize("beside", MIXED)
def test_a_model_that_mixes_rows_is_trained_one_client_at_a_time_and_says_why(beside, tokenizer):
    run = run_of(with_blocks(MIXED[beside]), tokenizer, group_size=3)
    assert run.group_size == 1
    assert run.sharing.notes == (
        "BertForSequenceClassification is trained one client at a time, which is slower: what it computes for one text "
        f"changes with {beside}.",
    )


def test_where_rows_of_a_batch_mix_a_client_alone_trains_as_with_peft(tokenizer):
    """In one pass of its whole batch: not in slices of similar length, where the rows would be others."""

    def mix(x):
        return x + 0.1 * x.mean(dim=(0, 1), keepdim=True)

    found = compare(with_blocks(mix), tokenizer, "classification", ["query", "value"])
    assert not found.sharing.together
    assert found.difference < 1e-5


def test_a_model_whose_clients_share_passes_has_nothing_to_say(tokenizer):
    run = run_of(tiny_bert(), tokenizer)
    assert run.sharing.notes == ()
    assert run.group_size == 3


def test_one_client_is_not_said_to_be_slow(tokenizer):
    run = run_of(with_blocks(MIXED["the texts beside it"]), tokenizer, method="centralized")
    assert run.sharing.notes == ()


@pytest.mark.parametrize("itself", [True, False])
def test_activations_that_cannot_be_computed_again_where_asked_for_are_said(itself, tokenizer):
    model = tiny_bert()
    if itself:
        model.gradient_checkpointing_enable()
    run = run_of(model, tokenizer, activation_checkpointing=True)
    assert (run.sharing.recomputation is None) == itself
    assert any("computed again" in note for note in run.sharing.notes) == itself


def test_a_model_that_reads_the_end_of_a_row_shares_passes_where_padding_is_on_the_left(tokenizer):
    """XLNet, whose tokens come first."""
    data = datasets.DatasetDict(train=tiny_texts(36), validation=tiny_texts(6, seed=1))
    model = tiny_model("xlnet", "classification")
    config = SimulationConfig(model=model, tokenizer=tokenizer, data=data, clients=3, lora={"r": 2})
    material = prepare(config)
    for side, together in (("left", True), ("right", False)):
        run = Run(config, replace(material, train=replace(material.train, padding_side=side)))
        assert run.sharing.together is together


def test_rows_that_are_padded_on_the_left_are_not_unpadded(tokenizer):
    data = datasets.DatasetDict(train=tiny_texts(36), validation=tiny_texts(6, seed=1))
    config = SimulationConfig(model=tiny_bert(), tokenizer=tokenizer, data=data, clients=3, lora={"r": 2})
    material = prepare(config)
    run = Run(config, replace(material, train=replace(material.train, padding_side="left")))
    assert run.sharing.unpadding is None


def test_padding_on_the_left_is_that_of_the_tokenizer(tokenizer):
    texts = tiny_texts(6)
    tokens = tokenize(
        texts, tokenizer, task="classification", text_columns=["text"], label_column="label", max_length=32
    )
    batch = replace(tokens, padding_side="left").batch(np.arange(6), torch.device("cpu"))
    tokenizer.padding_side = "left"
    expected = tokenizer(texts["text"][:], padding=True, return_tensors="pt")
    assert torch.equal(batch.inputs["input_ids"], expected["input_ids"])
    assert torch.equal(batch.inputs["attention_mask"], expected["attention_mask"])


def test_a_model_that_is_another_each_time_is_refused(tokenizer):
    model = with_blocks(lambda x: x + 0.1 * torch.randn_like(x))
    with pytest.raises(ModelError, match="something else each time"):
        run_of(model, tokenizer)


def test_a_model_that_does_not_compute_is_refused_with_its_own_reason(tokenizer):
    def fail(x):
        raise KeyError("bbox is missing\nand more")

    with pytest.raises(ModelError, match=r"cannot compute texts of the data \(of .* tokens\): KeyError: 'bbox"):
        run_of(with_blocks(fail), tokenizer)


def test_adapters_that_no_gradient_comes_back_to_are_said(tokenizer):
    model = tiny_bert()
    model.bert.encoder.layer[0].register_forward_hook(lambda module, args, output: output.detach())
    run = run_of(model, tokenizer, lora={"target_modules": ["query"]})
    assert run.sharing.notes == (
        "In a trial no gradient came back to 1 of 2 adapted layers of BertForSequenceClassification: "
        "bert.encoder.layer.0.attention.self.query.",
    )


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((5, 8, 3), 0), ((5, 3), 0), ((40, 3), 0), ((8, 5, 3), 1), ((1, 8, 3), None), ((8, 3), None), ((10, 4, 3), 0)],
)
def test_the_axis_of_the_sequences_is_told_by_its_size(shape, axis):
    assert row_axis(torch.Size(shape), 5) == axis


def test_layers_of_tokens_first_compute_what_they_compute_of_sequences_first():
    draw = torch.Generator().manual_seed(0)
    rows = RowOwners(owner=torch.tensor([0, 0, 1]), count=3, clients=np.array([4, 4, 9], np.uint32), training=True)
    rows.samples = np.array([0, 1, 0], np.uint32)
    lora = BatchedLora(nn.Linear(5, 6), "a", rows, scaling=0.5, dropout=0.5, seed=1)
    lora.lora_a, lora.lora_b = torch.randn(2, 2, 5, generator=draw), torch.randn(2, 6, 2, generator=draw)
    head = BatchedLinear("b", rows)
    head.weight, head.bias = torch.randn(2, 6, 5, generator=draw), torch.randn(2, 6, generator=draw)
    x = torch.randn(3, 4, 5, generator=draw)
    for layer in (lora, head):
        expected = layer(x)
        layer.row_axis = 1
        torch.testing.assert_close(layer(x.transpose(0, 1)), expected.transpose(0, 1))
