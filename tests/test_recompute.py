"""Activation checkpointing: the same gradients, of less that is kept."""

import numpy as np
import peft
import pytest
import torch

from declora.model import AdapterBank
from declora.model.owners import RowOwners
from declora.model.recompute import Recomputation
from declora.model.surgery import Surgery
from declora.model.unpad import Unpadding
from declora.train.trial import one_step
from test_train import tokens_of
from tiny import tiny_bert, tiny_gpt2, tiny_llama, tiny_roberta

MODELS = {
    "bert": (tiny_bert, "classification", ["query", "value"]),
    "roberta, all-linear": (tiny_roberta, "classification", "all-linear"),
    "gpt2": (tiny_gpt2, "causal-lm", None),
    "llama": (tiny_llama, "causal-lm", "all-linear"),
}
SHARDS = [np.arange(0, 4), np.arange(4, 6), np.arange(6, 12)]


def kept_and_gradients(make, tokens, lora, *, unpad, recompute, together=True, dropout=False):
    """Bytes that autograd keeps of a step, and the gradients of all clients."""
    model, owners, kept = make(), RowOwners(), []
    surgery = Surgery(model, lora, owners, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, owners)
    bank.fill(surgery.initial, len(SHARDS), torch.device("cpu"))
    bank.P += 0.02 * torch.randn(bank.P.shape, generator=torch.Generator().manual_seed(5))
    bank.bind(bank.P[:1])
    unpadding = Unpadding.of(model, owners) if unpad else None
    assert (unpadding is not None) == unpad
    recomputation = Recomputation.of(model, owners, unpadding, random=dropout) if recompute else None
    assert (recomputation is not None) == recompute

    def keep(tensor):
        kept.append(tensor.nbytes)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        one_step(
            model, bank, tokens, SHARDS, together=together, unpadding=unpadding, recomputation=recomputation,
            base_dropout=dropout,
        )  # fmt: skip
    blocks = [block for block in model.modules() if "forward" in vars(block)]
    assert not blocks
    surgery.undo()
    return sum(kept), bank.G


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("unpad", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_the_same_bits_and_less_is_kept(name, unpad, together, tokenizer):
    make, task, targets = MODELS[name]
    tokens = tokens_of(tokenizer, task, 3 if "roberta" in name else 2)
    kind = "SEQ_CLS" if task == "classification" else "CAUSAL_LM"
    lora = peft.LoraConfig(r=2, target_modules=targets, task_type=kind, lora_dropout=0.2)
    options = {"unpad": unpad, "together": together}
    all_kept, expected = kept_and_gradients(make, tokens, lora, recompute=False, **options)
    kept, found = kept_and_gradients(make, tokens, lora, recompute=True, **options)
    assert torch.equal(found, expected)
    assert expected.abs().max() > 0
    assert kept < all_kept / 2


def test_the_bases_own_dropout_draws_the_same_again(tokenizer):
    def make():
        model = tiny_bert()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        return model

    tokens, lora = tokens_of(tokenizer, "classification"), peft.LoraConfig(r=2, task_type="SEQ_CLS")
    _, expected = kept_and_gradients(make, tokens, lora, unpad=False, recompute=False, dropout=True)
    _, found = kept_and_gradients(make, tokens, lora, unpad=False, recompute=True, dropout=True)
    assert torch.equal(found, expected)


def test_a_model_that_checkpoints_itself_is_left_alone():
    model = tiny_bert()
    assert Recomputation.of(model, RowOwners(), None) is not None
    model.gradient_checkpointing_enable()
    assert Recomputation.of(model, RowOwners(), None) is None
