"""Families of models: each trains in a group as PEFT trains it alone, or is refused by one sentence."""

import pytest
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL_TARGETS

from declora.errors import ModelError
from tiny_families import compare, tiny_model

# How its clients are trained: packed without padding, padded, or one at a time.
PACKED, PADDED, APART = "packed", "padded", "apart"
WAYS = {
    ("albert", "classification"): PACKED,
    ("bart", "classification"): PADDED,
    ("bert", "classification"): PACKED,
    ("deberta-v2", "classification"): APART,
    ("distilbert", "classification"): PACKED,
    ("electra", "classification"): PACKED,
    ("fnet", "classification"): APART,
    ("longformer", "classification"): PADDED,
    ("modernbert", "classification"): PACKED,
    ("roberta", "classification"): PACKED,
    ("t5", "classification"): PADDED,
    ("umt5", "classification"): PADDED,
    ("xlnet", "classification"): PADDED,
    ("gpt2", "classification"): PACKED,
    ("bloom", "causal-lm"): PADDED,
    ("falcon", "causal-lm"): PADDED,
    ("gemma2", "causal-lm"): PACKED,
    ("gemma3_text", "causal-lm"): PACKED,
    ("gpt2", "causal-lm"): PACKED,
    ("gpt_neox", "causal-lm"): PACKED,
    ("llama", "causal-lm"): PACKED,
    ("mamba", "causal-lm"): PADDED,
    ("mistral", "causal-lm"): PACKED,
    ("opt", "causal-lm"): PACKED,
    ("phi", "causal-lm"): PACKED,
    ("qwen3", "causal-lm"): PACKED,
    # Experts take tokens of all clients: whether the bits of one depend on how many they get is the processor's choice.
    ("mixtral", "causal-lm"): PACKED + PADDED + APART,
    ("qwen3_moe", "causal-lm"): PACKED + PADDED + APART,
}


CASES = [
    (*case, targets) for case in WAYS for targets in (None, "all-linear") if not targets or case[0] in USUAL_TARGETS
]


@pytest.mark.parametrize(("kind", "task", "targets"), CASES)
def test_clients_of_a_family_train_as_each_would_alone_with_peft(kind, task, targets, tokenizer):
    found = compare(tiny_model(kind, task), tokenizer, task, targets)
    # Float32 in another order of sums: measured, 3e-7 to 3e-6.
    assert found.difference < 1e-5
    assert found.of_a_block < 1e-3
    way = PACKED if found.sharing.unpadding else PADDED if found.sharing.together else APART
    assert way in WAYS[kind, task]


@pytest.mark.parametrize(
    ("kind", "task", "message"),
    [
        ("xlnet", "causal-lm", "sees the tokens that it would have to predict"),
        ("reformer", "classification", "no gradient comes back to its adapters"),
        ("ibert", "classification", "has no linear layer to adapt"),
    ],
)
def test_a_family_that_cannot_be_trained_so_is_refused_by_one_sentence(kind, task, message, tokenizer):
    model = tiny_model(kind, task)
    before = dict(model.named_modules())
    with pytest.raises(ModelError, match=message):
        compare(model, tokenizer, task, None)
    assert dict(model.named_modules()) == before
