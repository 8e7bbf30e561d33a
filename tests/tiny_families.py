"""Tiny random models of transformers' families, and a client trained by declora in a group beside PEFT alone."""

import copy
from dataclasses import dataclass

import datasets
import peft
import torch
import transformers
from torch.nn import functional
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from declora.config import SimulationConfig
from declora.prepare import prepare
from declora.run import Outcome, Run
from declora.train.order import ClientOrder
from declora.train.sharing import Sharing
from declora.train.tokens import Tokens
from tiny import tiny_texts

TASKS = {
    "classification": transformers.AutoModelForSequenceClassification,
    "causal-lm": transformers.AutoModelForCausalLM,
}
MOST_PARAMETERS = 5_000_000

# By the names that configurations have for their sizes; which of them a family knows is asked of its own.
_SIZES = {
    "vocab_size": 64, "vocab_size_per_layer_input": 64, "max_position_embeddings": 64, "max_2d_position_embeddings": 64,
    "max_seq_len": 64, "n_positions": 64, "n_ctx": 64, "type_vocab_size": 2,
    "hidden_size": 32, "embedding_size": 32, "attention_hidden_size": 32, "d_model": 32, "dim": 32, "emb_dim": 32,
    "n_embd": 32, "hidden_size_per_layer_input": 16,
    "intermediate_size": 64, "ffn_hidden_size": 64, "shared_expert_intermediate_size": 32, "dff": 64, "d_ff": 64,
    "d_inner": 64, "ffn_dim": 64, "hidden_dim": 64, "n_inner": 64, "shared_intermediate_size": 32,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "moe_intermediate_size": 16,
    "num_hidden_layers": 2, "num_layers": 2, "n_layer": 2, "n_layers": 2, "encoder_layers": 2, "decoder_layers": 2,
    "num_decoder_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "num_heads": 2, "n_head": 2, "n_heads": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "index_n_heads": 2,
    "head_dim": 16, "d_kv": 16, "d_head": 16, "kv_channels": 16, "v_head_dim": 16, "qk_head_dim": 16,
    "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "index_head_dim": 16, "rotary_dim": 8, "query_pre_attn_scalar": 16,
    "kv_lora_rank": 8, "q_lora_rank": 8, "index_topk": 64, "sliding_window": 32, "chunk_size": 16, "block_size": 16,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
    "topk_group": 1,
    "mamba_d_state": 8, "mamba_n_heads": 2, "mamba_d_head": 32, "mamba_chunk_size": 16, "mamba_num_heads": 2,
    "mamba_head_dim": 32, "mamba_dt_rank": 4, "state_size": 8, "ssm_state_size": 8, "time_step_rank": 4,
    "linear_head_dim": 16, "linear_num_heads": 2,
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "num_labels": 2,
    "decoder_start_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip
_ALWAYS = {"pad_token_id", "bos_token_id", "eos_token_id", "num_labels"}
_LATENT = {"qk_rope_head_dim": 16, "head_dim": 16}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
_RELATIVE = {"relative_attention": True, "max_relative_positions": -1}
_STEEP, _MILD = {"initializer_range": 0.4}, {"initializer_range": 0.1}  # else more is rounded off
# What a family needs besides: sizes that must fit each other, or what its checkpoints have and its default has not.
_OWN = {
    "codegen": {"num_attention_heads": 4},
    "deberta": {**_RELATIVE, "pos_att_type": ["c2p", "p2c"]},
    "deberta-v2": {**_RELATIVE, "pos_att_type": ["p2c", "c2p"], "share_att_key": True, "position_buckets": 8},
    "deepseek_v3": _LATENT, "axk1": _LATENT, "youtu": _LATENT,
    "dots1": {"n_shared_experts": 1},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {"layer_types": ["sliding_attention", "full_attention"], "num_kv_shared_layers": 0},
    "gemma4_text": _STEEP, "gemma4_unified_text": _STEEP,
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "layoutlmv3": {"coordinate_size": 5, "shape_size": 6},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lilt": {"hidden_size": 48, "num_attention_heads": 4, "channel_shrink_ratio": 4},
    "longformer": {"attention_window": [4, 4]},
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 16},
    "mamba2": {"num_heads": 2, "head_dim": 32, "expand": 2, "n_groups": 1},
    "mt5": {"decoder_start_token_id": 0}, "t5": {"decoder_start_token_id": 0}, "umt5": {"decoder_start_token_id": 0},
    "nemotron_h": {"n_groups": 1},
    "qwen3_5_text": _HYBRID, "qwen3_5_moe_text": _HYBRID, "qwen3_next": _HYBRID,
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {
        "axial_pos_embds": False, "is_decoder": True, "attn_layers": ["local", "lsh"], "attention_head_size": 16,
        "feed_forward_size": 64, "hash_seed": 0, "num_buckets": 2, "lsh_attn_chunk_length": 4,
        "local_attn_chunk_length": 4,
    },
    "roc_bert": {
        "pronunciation_vocab_size": 16, "pronunciation_embed_dim": 8, "shape_vocab_size": 16, "shape_embed_dim": 8,
    },
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "zaya": {"num_experts_per_tok": 1, **_MILD},
}  # fmt: skip


def tiny_model(kind: str, task: str, **sizes) -> transformers.PreTrainedModel:
    """Returns a model of that family with random weights, always the same ones, that computes text."""
    make = CONFIG_MAPPING[kind]
    known = {*make().to_dict(), *getattr(make, "attribute_map", {}), *_ALWAYS}
    config = make(**{name: size for name, size in _SIZES.items() if name in known} | _OWN.get(kind, {}) | sizes)
    with torch.device("meta"):
        shape = TASKS[task].from_config(copy.deepcopy(config))
    if (count := sum(p.numel() for p in shape.parameters())) > MOST_PARAMETERS:
        raise ValueError(f"{count / 1e6:.0f} million parameters remain")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = TASKS[task].from_config(config).eval()
        for weight in model.parameters():
            if weight.dim() > 1 and not weight.any():
                weight.normal_(std=0.2)  # a router of zeros would leave the choice of experts to chance
        ids = torch.randint(4, 60, (3, 7))
        ids[:, -1] = 3
        # Else sizes do not fit each other. A cache is for generating alone, and some have none for all their layers.
        cached = {} if task == "classification" else {"use_cache": False}
        model(input_ids=ids, attention_mask=torch.ones_like(ids), **cached)
    return model


@dataclass(frozen=True)
class Comparison:
    """Three clients trained by declora, and each of them by PEFT alone."""

    sharing: Sharing
    difference: float
    """Of the adapters, in units of how far they moved (Euclidean norms); the largest of the clients."""
    of_a_block: float
    """Likewise, the largest of their blocks, where a block that hardly moves counts as a thousandth of its adapter."""


CLIENTS, BATCH, STEPS, RATE, CLIP, SEED = 3, 6, 3, 0.5, 0.5, 3


class _Spread(Run):
    """A run whose clients begin with adapters of their own, `start`."""

    def _begin(self, earlier):
        super()._begin(earlier)
        spread = 0.05 * torch.randn(self.bank.P.shape, generator=torch.Generator().manual_seed(5))
        self.bank.P += spread.to(self.bank.P.device)
        self.start = self.bank.P.clone().cpu()


@dataclass(frozen=True)
class Together:
    """Three clients trained by declora in a group."""

    run: Run
    start: torch.Tensor
    """`[CLIENTS, D]`: what their adapters were."""
    outcome: Outcome

    def alone(self, model: transformers.PreTrainedModel) -> torch.Tensor:
        """Returns what PEFT and torch's own optimizer make of each `start` over `model`, where that is."""
        orders = [
            ClientOrder(shard, batch_size=BATCH, seed=SEED, client=client)
            for client, shard in enumerate(self.run.federation.shards)
        ]
        tokens = self.run.material.train
        rows = [_alone(model, self.outcome, tokens, *own) for own in zip(orders, self.start, strict=True)]
        return torch.stack(rows)


def together(
    model: transformers.PreTrainedModel, tokenizer, task: str, targets: str | list[str] | None, **settings
) -> Together:
    """Trains adapters on `targets` (None: declora's choice) that start at random, by SGD with a linear schedule."""
    data = datasets.DatasetDict(train=tiny_texts(60), validation=tiny_texts(8, seed=1))
    lora = {"r": 2, "lora_alpha": 4} | ({} if targets is None else {"target_modules": targets})
    config = SimulationConfig(
        model=model, tokenizer=tokenizer, data=data if task == "classification" else data.remove_columns("label"),
        clients=CLIENTS, rounds=1, local_steps=STEPS, batch_size=BATCH, method="local", lora=lora, optimizer="sgd",
        learning_rate=RATE, weight_decay=0.0, clip_norm=CLIP, max_length=32, client_eval_samples=0, seed=SEED,
        **settings,
    )  # fmt: skip
    run = _Spread(config, prepare(config))
    outcome = run.execute()
    return Together(run, run.start, outcome)


def compare(model: transformers.PreTrainedModel, tokenizer, task: str, targets: str | list[str] | None) -> Comparison:
    """Trains three clients together, and each alone by PEFT on a CPU."""
    own = copy.deepcopy(model)
    found = together(model, tokenizer, task, targets)
    expected = found.alone(own)
    wrong, moved = found.outcome.rows - expected, expected - found.start
    of_a_block = 0.0
    for block in found.outcome.layout:
        part = slice(block.start, block.stop)
        floor = torch.maximum(moved[:, part].norm(dim=1), 1e-3 * moved.norm(dim=1))
        of_a_block = max(of_a_block, float((wrong[:, part].norm(dim=1) / floor).max()))
    return Comparison(found.run.sharing, float((wrong.norm(dim=1) / moved.norm(dim=1)).max()), of_a_block)


def _alone(model, outcome: Outcome, tokens: Tokens, order: ClientOrder, start: torch.Tensor) -> torch.Tensor:
    """Returns the adapter that PEFT and torch's own optimizer make of `start`, from the client's batches."""
    wrapped = peft.get_peft_model(copy.deepcopy(model), copy.deepcopy(outcome.lora)).eval()
    peft.set_peft_model_state_dict(wrapped, outcome.layout.unflatten(start))
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    schedule = transformers.get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=STEPS)
    for step in range(STEPS):
        batch = tokens.batch(order.batch(step), model.device)
        if tokens.task == "classification":
            loss = functional.cross_entropy(wrapped(**batch.inputs).logits.float(), batch.labels)
        else:
            logits = wrapped(**batch.inputs, use_cache=False).logits[:, :-1].float()
            loss = functional.cross_entropy(logits.transpose(1, 2), batch.labels[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        schedule.step()
    return outcome.layout.flatten(peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False))
