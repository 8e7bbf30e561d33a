"""The head of a causal LM at scored tokens alone: losses and gradients are those of the whole model."""

import numpy as np
import peft
import pytest
import torch
import transformers

from declora.model import AdapterBank
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.train.loss import batch_losses
from declora.train.scored import ScoredHead
from declora.train.tokens import Batch
from test_train import tokens_of
from tiny import tiny_gpt2, tiny_llama

CPU = torch.device("cpu")


def tiny_gemma2():
    """Its head is followed by a soft cap."""
    torch.manual_seed(0)
    config = transformers.Gemma2Config(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16,
        intermediate_size=64, max_position_embeddings=64, final_logit_softcapping=0.5, initializer_range=0.2,
        sliding_window=4,
    )  # fmt: skip
    return transformers.Gemma2ForCausalLM(config).eval()


def tiny_opt():
    """Its decoder is inside of its base model."""
    torch.manual_seed(0)
    config = transformers.OPTConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, ffn_dim=64, word_embed_proj_dim=32,
        max_position_embeddings=64,
    )  # fmt: skip
    return transformers.OPTForCausalLM(config).eval()


MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama, "gemma2": tiny_gemma2, "opt": tiny_opt}


def adapted(model, **lora):
    owners = RowOwners()
    surgery = Surgery(model, peft.LoraConfig(r=2, task_type="CAUSAL_LM", **lora), owners, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, owners)
    bank.fill(surgery.initial + 0.05 * torch.randn(surgery.initial.shape), 1, CPU)
    bank.G = torch.zeros_like(bank.P)
    return bank


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_those_of_the_whole_model_whatever_the_chunks(name, chunk, tokenizer, monkeypatch):
    """Some tokens are prompts, which nobody scores; a row has no target at all."""
    model, tokens = MODELS[name](), tokens_of(tokenizer, "causal-lm")
    bank = adapted(model)
    tokens.scored[:] = np.random.default_rng(0).random(len(tokens.ids)) < 0.6
    tokens.scored[tokens.starts[2] : tokens.starts[3]] = False
    batch = tokens.batch(np.arange(6), CPU)
    monkeypatch.setattr("declora.train.scored._CHUNK_BYTES", {"cpu": 4 * 64 * chunk})
    found = []
    with bank.owners.computing(6):
        bank.bind(bank.P)
        for head in (None, ScoredHead.of(model, batch)):
            bank.G.zero_()
            bank.bind(bank.P, bank.G)
            losses = batch_losses(model, batch, head)
            (losses * torch.arange(1.0, 7.0)).sum().backward()
            found.append((losses.detach(), bank.G.clone()))
    assert found[1][0][2] == 0.0
    assert head is not None
    for whole, scored in zip(*found, strict=True):
        torch.testing.assert_close(scored, whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))


def test_logits_are_computed_for_scored_tokens_alone_and_in_chunks(tokenizer, monkeypatch):
    model, tokens = tiny_llama(), tokens_of(tokenizer, "causal-lm")
    bank, rows = adapted(model), []
    batch = tokens.batch(np.arange(6), CPU)
    bank.bind(bank.P)
    with bank.owners.computing(6), torch.no_grad():
        head = ScoredHead.of(model, batch)
        monkeypatch.setattr("declora.train.scored._CHUNK_BYTES", {"cpu": 4 * 64 * 10})
        hook = model.lm_head.register_forward_hook(lambda _, args, out: rows.append(out.shape[1]))
        head.row_losses(batch)
        hook.remove()
    targets = int(tokens.targets(np.arange(6)).sum())
    assert max(rows) == 10
    assert sum(rows) == targets < batch.labels.numel()


def test_an_adapted_head_or_one_that_wants_more_than_hidden_states_is_computed_whole(tokenizer):
    tokens = tokens_of(tokenizer, "causal-lm")
    batch = tokens.batch(np.arange(4), CPU)
    model = tiny_llama()
    bank = adapted(model, target_modules=["q_proj", "lm_head"])
    bank.bind(bank.P)
    with bank.owners.computing(4):
        assert ScoredHead.of(model, batch) is None

    class OfInputs(transformers.LlamaForCausalLM):
        """Adds to its logits what the ids say."""

        def forward(self, input_ids, **options):
            output = super().forward(input_ids, **options)
            output.logits = output.logits + input_ids.unsqueeze(2) / 64
            return output

    torch.manual_seed(0)
    model = OfInputs(tiny_llama().config).eval()
    bank = adapted(model)
    bank.bind(bank.P)
    with bank.owners.computing(4):
        assert ScoredHead.of(model, batch) is None


def test_a_batch_repeated_scores_the_same_tokens_of_each_copy():
    batch = Batch(
        {"input_ids": torch.arange(6).view(2, 3)},
        torch.tensor([[-100, 1, 2], [-100, -100, 5]]),
        torch.tensor([0, 1, 4]),
    )
    twice = batch.times(2)
    assert twice.scored.tolist() == [0, 1, 4, 6, 7, 10]
    assert torch.equal(twice.labels, torch.cat([batch.labels, batch.labels]))
    assert torch.equal(twice.inputs["input_ids"], torch.cat([batch.inputs["input_ids"]] * 2))
