"""The user's model is given back as it came, and a run does not depend on what the caller has switched on in torch."""

import copy

import datasets
import pytest
import torch
import transformers

import declora
from declora import run as runs
from declora.errors import ModelError, TrainingError
from tiny import tiny_bert, tiny_gpt2, tiny_texts


@pytest.fixture
def run(tokenizer):
    few = datasets.DatasetDict(train=tiny_texts(24), validation=tiny_texts(8, seed=1))

    def simulate(model, **settings):
        usual = {
            "data": few, "clients": 2, "rounds": 2, "local_steps": 1, "batch_size": 4, "client_eval_samples": 4,
            "tokenizer": tokenizer, "lora": {"r": 2},
        }  # fmt: skip
        return declora.simulate(model=model, **{**usual, **settings})

    return simulate


def portrait(model):
    """All that a run could leave behind in a model."""
    return {
        "weights": {name: (value.clone(), value.device) for name, value in model.state_dict(keep_vars=True).items()},
        "flags": {name: (weight.requires_grad, weight.grad) for name, weight in model.named_parameters()},
        "modules": dict(model.named_modules()),
        "modes": {name: module.training for name, module in model.named_modules()},
        "attributes": {name: set(vars(module)) for name, module in model.named_modules()},
        "hooks": {
            name: [len(getattr(module, f"_{hooks}_hooks")) for hooks in ("forward", "forward_pre", "backward")]
            for name, module in model.named_modules()
        },
        "config": copy.deepcopy(vars(model.config)),
        "generation": copy.deepcopy(vars(model.generation_config)) if model.can_generate() else None,
    }


def assert_same(after, before):
    weights, were = after.pop("weights"), before.pop("weights")
    assert weights.keys() == were.keys()
    assert all(torch.equal(weights[name][0], were[name][0]) for name in were)
    assert all(weights[name][1] == were[name][1] for name in were)
    assert after == before


def in_training(model):
    """A model as it comes out of somebody's own training: in training mode, one part frozen, no padding token."""
    model.train()
    model.requires_grad_(False)
    next(model.parameters()).requires_grad_(True)
    model.config.pad_token_id = None
    model.config.use_cache = True
    return model


def stopped(*_, **__):
    raise KeyboardInterrupt


ENDINGS = {
    "a run": ({}, None),
    "a comparison": ({"compare": ["dec-lora", "local"]}, None),
    "an unknown module": ({"lora": {"r": 2, "target_modules": ["qwery"]}}, ModelError),
    "a module that cannot be adapted": ({"lora": {"target_modules": ".*(word_embeddings|wte)"}}, ModelError),
    "a loss that is not finite": ({"learning_rate": 1e30, "clip_norm": None, "optimizer": "sgd"}, TrainingError),
    "a folder that cannot be": ({"out": "/proc/nowhere"}, declora.RunFolderError),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "make",
    [tiny_bert, lambda: tiny_gpt2(transformers.GPT2ForSequenceClassification), tiny_gpt2],
    ids=["BERT", "GPT-2 classifier", "GPT-2"],
)
def test_the_model_is_as_it_was_after(ending, make, run):
    settings, error = ENDINGS[ending]
    model = in_training(make())
    before = portrait(model)
    task = "causal-lm" if isinstance(model, transformers.GPT2LMHeadModel) else "classification"
    if error is None:
        run(model, task=task, **settings)
    else:
        with pytest.raises(error):
            run(model, task=task, **settings)
    assert_same(portrait(model), before)


@pytest.mark.parametrize("place", ["_round", "_begin", "_try_model"])
def test_the_model_is_as_it_was_after_ctrl_c(place, run, monkeypatch):
    model = in_training(tiny_bert())
    before = portrait(model)
    monkeypatch.setattr(runs.Run, place, stopped)
    with pytest.raises(KeyboardInterrupt):
        run(model)
    assert_same(portrait(model), before)


def test_a_model_that_carries_an_adapter_keeps_it(run):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS")
    wrapped = peft.get_peft_model(tiny_bert(), lora)
    base = wrapped.get_base_model()
    before = portrait(base)
    with pytest.raises(ModelError, match=r"carries an adapter of PEFT already.*merge_and_unload\(\)"):
        run(base)
    with pytest.raises(ModelError, match=r"model is a PeftModelFor.*merge_and_unload\(\)"):
        run(wrapped)
    assert_same(portrait(base), before)
    run(wrapped.merge_and_unload())


# --- what the caller has switched on


class _Float64:
    def __enter__(self):
        torch.set_default_dtype(torch.float64)

    def __exit__(self, *_):
        torch.set_default_dtype(torch.float32)


AMBIENT = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "default dtype float64": _Float64,
    "default device meta": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("name", AMBIENT)
def test_a_run_is_the_same_whatever_the_caller_has_switched_on(name, run, tokenizer, tmp_path):
    model = tiny_bert()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    usual = run(tiny_bert())
    for given in (model, str(tmp_path)):
        with AMBIENT[name]():
            state = _state()
            result = run(given)
            assert _state() == state
        assert torch.equal(result.average.row, usual.average.row)
        assert result.history["average_loss"].iloc[-1] == usual.history["average_loss"].iloc[-1]


def _state():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
    )


def test_a_model_that_cannot_be_trained_over_is_refused_by_what_it_is(run):
    with torch.inference_mode():
        inference = tiny_bert()
    with pytest.raises(ModelError, match=r"was loaded inside torch.inference_mode\(\)"):
        run(inference)
    with torch.device("meta"):
        empty = transformers.BertForSequenceClassification(tiny_bert().config)
    with pytest.raises(ModelError, match=r"weight 'bert.embeddings.word_embeddings.weight' is not loaded"):
        run(empty)
