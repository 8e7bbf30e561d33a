"""The layers that adapters take the place of: which those are, and that the model has them back whatever happens."""

import ast

import datasets
import peft
import pytest
import torch
import transformers
from torch import nn

from declora.config import SimulationConfig
from declora.errors import ModelError
from declora.model.batched import BatchedLora
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.prepare import prepare
from declora.run import Run
from tiny import tiny_bert, tiny_gpt2, tiny_llama, tiny_texts
from tiny_families import tiny_model


def state_of(model):
    """All that surgery may change of a model."""
    modules = {name: (module, type(module), dict(vars(module))) for name, module in model.named_modules()}
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return modules.keys(), [module for module, *_ in modules.values()], flags, weights, hasattr(model, "peft_config")


def assert_same(one, other):
    (*others, weights, mark), (*expected, own, own_mark) = one, other
    assert others == expected
    assert mark == own_mark
    assert all(torch.equal(value, own[name]) for name, value in weights.items())


def run_of(model, tokenizer, **settings):
    data = datasets.DatasetDict(train=tiny_texts(24), validation=tiny_texts(6, seed=1))
    few = {"clients": 2, "rounds": 1, "local_steps": 1, "batch_size": 2, "lora": {"r": 2}}
    config = SimulationConfig(model=model, tokenizer=tokenizer, data=data, **few | settings)
    return Run(config, prepare(config))


STAGES = {
    "while PEFT adapts": "declora.model.surgery.get_peft_model",
    "before anything is adapted": "declora.model.surgery.choose_targets",
    "while its state is read": "declora.model.surgery.get_peft_model_state_dict",
    "while layers are exchanged": "declora.model.surgery.BatchedLora",
    "while frozen layers are exchanged": "declora.model.surgery.FrozenLinear.replaces",
    "while the run is assembled": "declora.shares.steps_per_round",
    "while passes are tried": "declora.train.trial.forward",
    "after passes were tried": "declora.train.grouping.choose_group_size",
}


@pytest.mark.parametrize("error", [KeyboardInterrupt, TypeError, MemoryError])
@pytest.mark.parametrize("stage", STAGES)
def test_the_model_has_its_own_layers_back_whenever_preparing_ends_early(stage, error, tokenizer, monkeypatch):
    model = tiny_bert()
    before = state_of(model)

    def fail(*args, **kwargs):
        raise error("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(STAGES[stage], fail)
        with pytest.raises((error, ModelError)):
            run_of(model, tokenizer)
    assert_same(state_of(model), before)
    run_of(model, tokenizer)
    assert_same(state_of(model), before)


def test_a_model_whose_layers_were_exchanged_in_part_has_them_all_back(monkeypatch):
    """PEFT stops in the middle of its own work, where some layers are adapted already."""
    model, done = tiny_bert(), []
    before, add = state_of(model), peft.tuners.lora.LoraModel._create_and_replace

    def stop(*args, **kwargs):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(add(*args, **kwargs))

    monkeypatch.setattr(peft.tuners.lora.LoraModel, "_create_and_replace", stop)
    with pytest.raises(KeyboardInterrupt):
        Surgery(model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS"), RowOwners(), seed=0)
    assert_same(state_of(model), before)


def adapted(model, targets, task="SEQ_CLS", **fields):
    surgery = Surgery(
        model, peft.LoraConfig(r=2, target_modules=targets, task_type=task, **fields), RowOwners(), seed=0
    )
    found = {name for name, module in model.named_modules() if isinstance(module, BatchedLora)}
    surgery.undo()
    return found


@pytest.mark.parametrize(
    ("make", "task", "fields"),
    [
        (tiny_bert, "SEQ_CLS", {}),
        (lambda: tiny_gpt2(transformers.GPT2ForSequenceClassification), "SEQ_CLS", {}),
        (lambda: tiny_model("distilbert", "classification"), "SEQ_CLS", {}),
        (lambda: tiny_model("roberta", "classification"), "SEQ_CLS", {}),
        (tiny_llama, "CAUSAL_LM", {}),
        (tiny_llama, "CAUSAL_LM", {"modules_to_save": ["layers.1.mlp"]}),
    ],
)
def test_all_linear_is_every_linear_layer_that_is_not_trained_whole(make, task, fields):
    model = make()
    heads = ("classifier", "score", "lm_head", *fields.get("modules_to_save", []))
    expected = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | transformers.Conv1D) and not any(part in name for part in heads)
    }
    assert expected
    assert adapted(model, "all-linear", task, **fields) == expected


def test_where_nothing_is_said_the_usual_modules_are_adapted_or_all_linear_ones():
    usual = {f"bert.encoder.layer.{i}.attention.self.{name}" for i in range(2) for name in ("query", "value")}
    assert adapted(tiny_bert(), None) == usual
    unusual = tiny_model("distilbert", "classification")
    assert adapted(unusual, None) == adapted(unusual, "all-linear")


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "phimoe", "deepseek_v3"])
def test_experts_and_routers_are_no_linear_layers(kind):
    names = adapted(tiny_model(kind, "causal-lm"), "all-linear", "CAUSAL_LM")
    assert names
    assert not any(part in name for name in names for part in ("expert", "router", "gate", "mlp.up", "mlp.down"))


def test_mamba_keeps_the_layer_whose_weight_its_kernel_reads():
    names = {name.rpartition(".")[2] for name in adapted(tiny_model("mamba", "causal-lm"), None, "CAUSAL_LM")}
    assert names == {"in_proj", "x_proj", "dt_proj"}


def test_a_target_that_cannot_be_adapted_is_refused_with_those_that_can():
    with pytest.raises(ModelError, match=r"lora.target_modules=qery can.*from its linear layers, dense, key, query, v"):
        adapted(tiny_bert(), ["qery"])


def test_layers_whose_adapters_peft_would_not_load_again_are_refused_with_a_way_out_that_works():
    """PEFT renames Laguna's shared experts in what it loads, but not in what it saves."""
    with pytest.raises(
        ModelError, match=r"PEFT does not load adapters of LagunaForCausalLM's .*exclude_modules"
    ) as refused:
        adapted(tiny_model("laguna", "causal-lm"), None, "CAUSAL_LM")
    names = ast.literal_eval(str(refused.value).partition("exclude_modules=")[2].rstrip("."))
    left = adapted(tiny_model("laguna", "causal-lm"), None, "CAUSAL_LM", exclude_modules=names)
    assert any("self_attn" in name for name in left)
    assert not any("shared_experts" in name for name in left)


def test_models_may_look_at_the_weight_of_an_adapted_layer():
    """T5 asks its last projection for the dtype of its weight."""
    layer = nn.Linear(3, 4)
    adapted_layer = BatchedLora(layer, "x", RowOwners(), scaling=1.0, dropout=0.0, seed=0)
    assert adapted_layer.weight is layer.weight
    assert adapted_layer.bias is layer.bias
    assert BatchedLora(nn.Linear(3, 4, bias=False), "x", RowOwners(), scaling=1.0, dropout=0.0, seed=0).bias is None
