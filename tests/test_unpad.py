"""Unpadding: unpadded tokens against padded batches, which blocks allow it, and the gradients of grouped LoRA."""

import itertools

import numpy as np
import peft
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from declora.metrics import METRICS
from declora.model import AdapterBank
from declora.model.frozen import product_rows
from declora.model.grouped import grouped_linear, grouped_lora, lora_products
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.model.unpad import Unpadding
from declora.model.unpadded import ByClient, unpad
from declora.model.unpadded_attention import ATTENTION, AttentionRows, Sequences, UnpaddedMask
from declora.train.evaluate import evaluate
from declora.train.packing import best_fit
from declora.train.sharing import Sharing
from test_train import CLIENTS, SGD, SIZES, assert_batched_equals_alone, batched, tokens_of
from tiny import tiny_bert, tiny_gpt2, tiny_roberta

CPU = torch.device("cpu")


def tiny(kind, **options):
    torch.manual_seed(0)
    config = kind(vocab_size=64, num_labels=2, pad_token_id=0, **options)
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def tiny_llama_classifier():
    return tiny(
        transformers.LlamaConfig, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip


def tiny_distilbert():
    return tiny(transformers.DistilBertConfig, dim=32, n_layers=2, n_heads=2, hidden_dim=64, initializer_range=0.2)


def tiny_mpnet():
    """Its encoder hands a bias of the positions of the padded batch from block to block."""
    return tiny(
        transformers.MPNetConfig, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip


def eager(make):
    model = make()
    model.set_attn_implementation("eager")
    return model


MODELS = {
    "bert": (tiny_bert, 2, ["query", "value"]),
    "bert, eager attention": (lambda: eager(tiny_bert), 2, ["query", "value"]),
    "roberta, adapters after the last attention, two-layer head": (tiny_roberta, 3, "all-linear"),
    "distilbert": (tiny_distilbert, 2, ["q_lin", "v_lin"]),
    "gpt2": (lambda: tiny_gpt2(transformers.GPT2ForSequenceClassification), 2, "all-linear"),
    "llama, rotary positions": (tiny_llama_classifier, 2, ["q_proj", "down_proj"]),
}


def lora_of(targets, **options):
    return peft.LoraConfig(r=2, target_modules=targets, task_type="SEQ_CLS", **options)


def unpadding_of(model, targets="all-linear"):
    rows = RowOwners()
    surgery = Surgery(model, lora_of(targets), rows, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, rows)
    bank.fill(surgery.initial, 1, CPU)
    bank.bind(bank.P)
    return Unpadding.of(model, rows)


@pytest.mark.parametrize("name", MODELS)
def test_training_without_padding_equals_training_each_client_alone_with_peft(name, tokenizer):
    make, labels, targets = MODELS[name]
    model, lora, tokens = make(), lora_of(targets), tokens_of(tokenizer, "classification", labels)
    assert_batched_equals_alone(model, lora, tokens, unpad=True, **SGD)


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_without_padding_scores_as_with_it_whatever_its_batches(name, tokenizer, monkeypatch):
    make, labels, targets = MODELS[name]
    model, rows, tokens = make(), RowOwners(), tokens_of(tokenizer, "classification", labels)
    surgery = Surgery(model, lora_of(targets), rows, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, rows)
    bank.fill(surgery.initial, 1, CPU)
    bank.P += 0.1 * torch.randn(bank.P.shape, generator=torch.Generator().manual_seed(5))
    bank.bind(bank.P)
    unpadding, texts = Unpadding.of(model, rows), np.arange(3, 50)
    assert unpadding is not None
    scores = []
    for way, batch in ((None, 256), (unpadding, 256), (unpadding, 40)):
        monkeypatch.setattr("declora.train.evaluate.TOKENS_PER_BATCH", {"cpu": batch})
        scores += evaluate(model, bank, bank.P[:1], tokens, texts, METRICS["accuracy"], Sharing(True, way))
    padded, *unpadded = scores
    # Losses of float32 logits below 8 in another order of sums: their mean is off by some 1e-6.
    assert [score.loss for score in unpadded] == pytest.approx([padded.loss] * 2, abs=1e-5)
    assert [score.metrics for score in unpadded] == [padded.metrics] * 2


@pytest.mark.parametrize("group_size", [1, CLIENTS])
@pytest.mark.parametrize("name", ["bert", "roberta, adapters after the last attention, two-layer head", "gpt2"])
def test_dropout_masks_do_not_change_with_the_padding(name, group_size, tokenizer):
    make, labels, targets = MODELS[name]
    lora, tokens = lora_of(targets, lora_dropout=0.5), tokens_of(tokenizer, "classification", labels)
    _, padded, _, _ = batched(make(), lora, tokens, spread=0.02, group_size=group_size, **SGD)
    _, unpadded, _, _ = batched(make(), lora, tokens, spread=0.02, group_size=group_size, unpad=True, **SGD)
    torch.testing.assert_close(unpadded, padded, atol=1e-5, rtol=1e-4)


def test_a_client_that_waits_ends_with_the_bits_of_one_that_trained_alone(tokenizer):
    lora, tokens = lora_of(["query", "value"]), tokens_of(tokenizer, "classification")
    options = {"sizes": SIZES, "spread": 0.02, "rounds": 2, "group_size": 1, "unpad": True}
    _, together, _, _ = batched(tiny_bert(), lora, tokens, **options)
    for client in range(CLIENTS):
        _, apart, _, _ = batched(tiny_bert(), lora, tokens, only=client, **options)
        assert torch.equal(together[client], apart[0])


def test_in_a_group_a_client_that_waits_stands_still_and_the_others_train_as_alone(tokenizer):
    lora, tokens, model = lora_of(["query", "value"]), tokens_of(tokenizer, "classification"), tiny_bert()
    _, padded, _, _ = batched(model, lora, tokens, sizes=SIZES, spread=0.02, **SGD)
    _, unpadded, _, _ = batched(model, lora, tokens, sizes=SIZES, spread=0.02, unpad=True, **SGD)
    torch.testing.assert_close(unpadded, padded, atol=1e-5, rtol=1e-4)


def test_the_same_group_gives_the_same_bits_whatever_is_beside_it(tokenizer):
    lora, tokens = lora_of(["query", "value"]), tokens_of(tokenizer, "classification")
    options = {"group_size": 1, "unpad": True, "rounds": 2, "steps": 2}
    _, first, _, _ = batched(tiny_bert(), lora, tokens, sizes=(12, 12, 12), **options)
    _, again, _, _ = batched(tiny_bert(), lora, tokens, sizes=(12, 12, 12), **options)
    _, beside, _, _ = batched(tiny_bert(), lora, tokens, sizes=(12, 12, 20), **options)
    assert torch.equal(first, again)
    assert torch.equal(first[:2], beside[:2])
    assert not torch.equal(first[2], beside[2])


class Leaking(transformers.models.bert.modeling_bert.BertLayer):
    """A block in which a token reads the one before it, whatever the mask says, as a convolution does."""

    def forward(self, hidden_states, attention_mask=None, *others, **kwargs):
        mixed = hidden_states + 0.1 * hidden_states.roll(1, dims=1)
        return super().forward(mixed, attention_mask, *others, **kwargs)


def test_what_does_not_hold_on_the_model_itself_is_not_unpadded():
    model = tiny_bert()
    model.bert.encoder.layer = nn.ModuleList([Leaking(model.config) for _ in range(2)]).eval()
    assert unpadding_of(model) is None
    assert unpadding_of(tiny_mpnet(), ["q", "v"]) is None
    assert unpadding_of(tiny_bert(), ["query"]) is not None


def test_checkpointed_models_and_windows_that_only_the_mask_knows_keep_their_padding():
    model = tiny_bert()
    model.gradient_checkpointing_enable()
    assert unpadding_of(model) is None
    windowed = tiny_llama_classifier()
    windowed.config.sliding_window = 8  # its attention is not told
    assert unpadding_of(windowed, ["q_proj"]) is None


@pytest.mark.parametrize("wider", [0, 1])
def test_a_window_is_tried_at_its_edge(wider):
    """Of tokens that see four before and four after them, and of a model whose attention is told of one more."""
    model = tiny(
        transformers.ModernBertConfig, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, local_attention=8, layer_types=["sliding_attention", "full_attention"],
        initializer_range=0.2, cls_token_id=2, bos_token_id=2, eos_token_id=3, sep_token_id=3,
    )  # fmt: skip
    for module in model.modules():
        if getattr(module, "sliding_window", None) is not None:
            assert module.sliding_window == 5
            module.sliding_window += wider
    assert (unpadding_of(model) is None) == bool(wider)


def test_hooks_and_attention_are_gone_after_a_round(tokenizer):
    model = tiny_bert()
    batched(model, lora_of(["query"]), tokens_of(tokenizer, "classification"), unpad=True)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert model.config._attn_implementation == "sdpa"


@settings(max_examples=100)
@given(st.lists(st.lists(st.integers(1, 20), max_size=4), min_size=1, max_size=6).filter(any), st.integers(20, 50))
def test_every_token_is_kept_once_and_is_its_clients(by_client, capacity):
    lengths = np.array([length for own in by_client for length in own])
    clients = np.array([len(own) for own in by_client])
    width = int(lengths.max()) + 3
    unpadded = unpad(lengths, best_fit(lengths, capacity), clients, width=width, device=CPU)
    inside = torch.from_numpy(np.arange(width) < lengths[:, None])
    sequence = torch.where(inside, torch.arange(1, len(lengths) + 1).unsqueeze(1), 0)
    tokens, count = unpadded.tokens.gather(sequence), int(lengths.sum())
    assert tokens.shape == (1, product_rows(count))
    assert not tokens[0, count:].any()
    others = torch.cat([tokens[:, :count], torch.full_like(tokens[:, count:], -1)], dim=1)
    assert torch.equal(unpadded.tokens.scatter(others), sequence)
    tokens = tokens[:, :count]
    assert torch.equal(tokens[0, unpadded.first], torch.arange(1, len(lengths) + 1))
    position = unpadded.tokens.gather(torch.arange(width).unsqueeze(0))
    assert torch.equal(position[0, unpadded.first], torch.zeros(len(lengths), dtype=torch.int64))
    firsts = unpadded.firsts.gather(sequence)
    assert torch.equal(firsts[0], torch.arange(1, len(lengths) + 1))
    assert torch.equal(unpadded.firsts.scatter(firsts), torch.where(torch.arange(width) == 0, sequence, 0))
    owner = np.repeat(np.arange(len(clients)), clients)[tokens[0].numpy() - 1]
    for part, owners in ((unpadded.tokens, owner), (unpadded.firsts, np.repeat(np.arange(len(clients)), clients))):
        assert np.repeat(np.arange(len(clients)), part.by_client.counts).tolist() == owners.tolist()


@settings(max_examples=100)
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.integers(20, 50))
def test_a_token_shares_its_row_with_its_whole_sequence_and_sees_nothing_else(lengths, capacity):
    lengths = np.array(lengths)
    rows = AttentionRows(lengths, best_fit(lengths, capacity), CPU)
    sequence = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths))
    assert torch.equal(rows.token.flatten()[rows.place], torch.arange(len(sequence)))
    free = torch.ones(rows.shape, dtype=torch.bool).flatten().index_fill(0, rows.place, False).view(rows.shape)
    owner = sequence[rows.token].masked_fill(free, -1)
    assert torch.equal(rows.sees, owner.unsqueeze(2) == owner.unsqueeze(1))
    assert rows.sees[~free].sum() == (lengths**2).sum()


def test_a_causal_mask_looks_back_within_the_sequence_only():
    rows = AttentionRows(np.array([3, 2]), [np.array([0, 1])], CPU)
    mask = rows.mask(causal=True, dtype=torch.float32)[0, 0]
    allowed = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]])
    assert torch.equal(mask == 0, allowed.bool())
    assert (mask[allowed == 0] == torch.finfo(torch.float32).min).all()


def attention_alone(q, k, v, *, causal, scale, window, softcap):
    """Attention of one sequence as it is defined, `[1, heads, tokens, d]`."""
    scores = scale * q @ k.transpose(2, 3)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    back = torch.arange(q.shape[2]).unsqueeze(1) - torch.arange(q.shape[2])
    hidden = (back.abs() >= (window or q.shape[2])) | (back < 0 if causal else False)
    return torch.softmax(scores.masked_fill(hidden, -torch.inf), dim=-1) @ v


@pytest.mark.parametrize(("window", "softcap"), [(None, None), (3, None), (200, None), (None, 0.8), (4, 0.8)])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("longest", [9, 150])
def test_unpadded_attention_is_that_of_each_sequence_alone_and_has_its_gradients(causal, longest, window, softcap):
    """Rows of 9 + 4 places hold all scores; rows of 150 go through PyTorch's own attention.

    Two more rows are nobody's: not a number, they touch nothing, find zeros and have a gradient of zeros.
    """
    lengths, heads, width, free = np.array([5, longest, 4, 1]), 3, 4, 2
    sequences = Sequences(lengths, best_fit(lengths, longest + 4), CPU)
    draw = torch.Generator().manual_seed(longest)
    shape = (1, int(lengths.sum()), heads, width)
    leaves = [torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(3)]
    q, k, v = (x.transpose(1, 2) for x in leaves)
    mask = UnpaddedMask(sequences, causal=causal, dtype=torch.float64)
    full = [functional.pad(x, (0, 0, 0, free), value=torch.nan) for x in (q, k, v)]
    found = mask.attend(*full, scaling=0.7, window=window, softcap=softcap)
    assert mask.windows == {window}
    assert not found[:, -free:].any()
    for gradient in torch.autograd.grad(found.sum(), full, retain_graph=True):
        assert not gradient[:, :, -free:].any()
    found = found[:, :-free]
    alone = [
        attention_alone(*own, causal=causal, scale=0.7, window=window, softcap=softcap)
        for own in zip(*(x.split(lengths.tolist(), dim=2) for x in (q, k, v)), strict=True)
    ]
    expected = torch.cat(alone, dim=2).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(shape, generator=draw, dtype=torch.float64)
    gradients = torch.autograd.grad((found * weights).sum(), leaves)
    for one, other in zip(gradients, torch.autograd.grad((expected * weights).sum(), leaves), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("scales", [True, False])
@pytest.mark.parametrize("window", [None, 3, 200])
@pytest.mark.parametrize("causal", [False, True])
def test_flash_attention_is_told_where_sequences_lie_and_what_they_see(causal, window, scales, monkeypatch):
    """In place of torch's function stands what its documentation says it computes; older ones take no scale."""

    def varlen_attn(q, k, v, cu_q, cu_k, max_q, max_k, *, window_size=(-1, -1)):
        return of_scale(q, k, v, cu_q, cu_k, max_q, max_k, scale=q.shape[2] ** -0.5, window_size=window_size)

    def of_scale(q, k, v, cu_q, cu_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
        assert cu_q.dtype == cu_k.dtype == torch.int32
        assert max_q == max_k == int(cu_q.diff().max())
        found = []
        for start, stop in itertools.pairwise(cu_q.tolist()):
            own = [x[start:stop].transpose(0, 1) for x in (q, k, v)]
            back, ahead = (stop - start if width < 0 else width for width in window_size)
            apart = torch.arange(stop - start).unsqueeze(1) - torch.arange(stop - start)
            scores = scale * own[0] @ own[1].transpose(1, 2)
            weights = torch.softmax(scores.masked_fill((apart > back) | (-apart > ahead), -torch.inf), dim=-1)
            found.append((weights @ own[2]).transpose(0, 1))
        return torch.cat(found)

    lengths, heads, width = np.array([5, 9, 4, 1]), 3, 4
    draw = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, heads, int(lengths.sum()), width, generator=draw, dtype=torch.float64) for _ in range(3))
    sequences = Sequences(lengths, best_fit(lengths, 13), CPU)
    in_rows, as_they_lie = (UnpaddedMask(sequences, causal=causal, dtype=torch.float64) for _ in range(2))
    expected = in_rows.attend(q, k, v, scaling=0.7, window=window)
    monkeypatch.setattr("declora.model.unpadded_attention._flash", lambda query, value: True)
    monkeypatch.setattr("declora.model.unpadded_attention._varlen_attn", lambda: of_scale if scales else varlen_attn)
    torch.testing.assert_close(as_they_lie.attend(q, k, v, scaling=0.7, window=window), expected)


def test_dropout_of_unpadded_attention_drops_weights_of_the_own_sequence_alone():
    """Queries of zero weigh their 4 or 2 tokens alike, so half of the weights dropped and doubled leaves multiples."""
    lengths = np.array([4, 2])
    mask = UnpaddedMask(Sequences(lengths, [np.array([0, 1])], CPU), causal=False, dtype=torch.float32)
    query, value = torch.zeros(1, 64, 6, 2), torch.ones(1, 64, 6, 2)
    torch.manual_seed(0)
    found = mask.attend(query, query, value, scaling=1.0, dropout=0.5)
    assert set(found[0, :4].flatten().tolist()) == {0.0, 0.5, 1.0, 1.5, 2.0}
    assert set(found[0, 4:].flatten().tolist()) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("name", ["s_aux", "position_bias"])
def test_attention_that_wants_more_than_unpadded_attention_does_is_refused(name):
    mask = UnpaddedMask(Sequences(np.array([3]), [np.array([0])], CPU), causal=False, dtype=torch.float32)
    x = torch.zeros(1, 2, 3, 4)
    attention = transformers.AttentionInterface()[ATTENTION]
    assert attention(nn.Identity(), x, x, x, mask, **{name: None})[0].shape == (1, 3, 2, 4)
    with pytest.raises(ValueError, match=name):
        attention(nn.Identity(), x, x, x, mask, **{name: 30.0})


@pytest.mark.parametrize(("clients", "most"), [(1, 5), (3, 8), (12, 4), (5, 40)])
def test_grouped_lora_is_each_clients_own_product_and_has_its_gradients(clients, most):
    """The last of several clients has no tokens, and one in between: they wait. Three more rows are nobody's."""
    draw = np.random.default_rng(clients)
    counts = draw.integers(1, most, clients, endpoint=True)
    if clients > 1:
        counts[[1, -1]] = 0
    tokens, free = int(counts.sum()), 3
    y, x, a, b = (
        torch.from_numpy(draw.standard_normal(shape, np.float32)).requires_grad_()
        for shape in ((tokens + free, 4), (tokens + free, 3), (clients, 2, 3), (clients, 4, 2))
    )
    owner = torch.from_numpy(np.repeat(np.arange(clients), counts))
    delta = torch.einsum("nor,nri,ni->no", b[owner], a[owner], x[:tokens])
    expected = y + 0.5 * functional.pad(delta, (0, 0, 0, free))
    result = grouped_lora(y, x, a, b, ByClient(counts, CPU), scaling=0.5)
    torch.testing.assert_close(result, expected)
    weights = torch.from_numpy(draw.standard_normal(result.shape, np.float32))
    found = torch.autograd.grad((result * weights).sum(), (y, x, a, b))
    wanted = torch.autograd.grad((expected * weights).sum(), (y, x, a, b))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("clients", "most", "rank", "inputs", "dtype"),
    [(3, 8, 2, 16, torch.bfloat16), (1003, 3, 8, 8, torch.bfloat16), (3, 8, 2, 3, torch.bfloat16),
     (3, 8, 5, 16, torch.float32)],
)  # fmt: skip
def test_torchs_own_products_are_each_clients_and_have_its_gradients(clients, most, rank, inputs, dtype):
    """Some clients wait, more than a grouped product takes, and ranks that are no multiple of eight are filled up.

    Between the products, bfloat16 keeps 8 bits: of sums of some ten terms that is an error of a hundredth.
    """
    draw = np.random.default_rng(clients)
    counts = draw.integers(0, most, clients, endpoint=True)
    counts[[0, -1]] = 0 if clients > 3 else 2
    x, a, b = (
        torch.from_numpy(draw.standard_normal(shape, np.float32)).to(dtype).float()
        for shape in ((int(counts.sum()), inputs), (clients, rank, inputs), (clients, 16, rank))
    )
    x, a, b = x.to(dtype).requires_grad_(), a.requires_grad_(), b.requires_grad_()
    owner = torch.from_numpy(np.repeat(np.arange(clients), counts))
    expected = torch.einsum("nor,nri,ni->no", b.double()[owner], a.double()[owner], x.double())
    found = lora_products(x, a, b, ByClient(counts, CPU))
    assert found.dtype == (dtype if inputs % 8 == 0 else torch.float32)
    weights = torch.from_numpy(draw.standard_normal(expected.shape, np.float32)).to(dtype).double()
    gradients = [torch.autograd.grad((y.double() * weights).sum(), (x, a, b)) for y in (found, expected)]
    close = 2e-2 if dtype == torch.bfloat16 else 1e-6
    for one, other in zip((found, *gradients[0]), (expected, *gradients[1]), strict=True):
        assert (one.double() - other).norm() <= close * other.norm()
    waiting = counts == 0
    assert not gradients[0][1][waiting].any()


@pytest.mark.parametrize("name", ["bert", "roberta, adapters after the last attention, two-layer head", "gpt2"])
def test_a_round_by_torchs_own_products_is_that_of_the_core(name, tokenizer, monkeypatch):
    make, labels, targets = MODELS[name]
    lora, tokens = lora_of(targets, lora_dropout=0.2), tokens_of(tokenizer, "classification", labels)
    options = {"sizes": SIZES, "spread": 0.02, "unpad": True, **SGD}
    _, core, losses, _ = batched(make(), lora, tokens, **options)
    _, of_bfloat16, _, _ = batched(make().bfloat16(), lora, tokens, **options)
    monkeypatch.setattr("declora.model.grouped._BY_TORCH", {"cpu"})
    _, torchs, again, _ = batched(make(), lora, tokens, **options)
    torch.testing.assert_close(torchs, core, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(again, losses, rtol=1e-6)
    # Products of factors in bfloat16 add no more to the rounding of a base in bfloat16 than as much again.
    _, rounded, _, _ = batched(make().bfloat16(), lora, tokens, **options)
    assert (rounded - core).norm() < 2 * (of_bfloat16 - core).norm()


@pytest.mark.parametrize("biased", [False, True])
def test_a_grouped_linear_layer_is_each_clients_own(biased):
    counts, draw = np.array([2, 0, 3]), torch.Generator().manual_seed(1)
    x, weight, bias = (torch.randn(shape, generator=draw).requires_grad_() for shape in ((5, 2, 3), (3, 4, 3), (3, 4)))
    owner = torch.from_numpy(np.repeat(np.arange(3), counts))
    expected = torch.einsum("nti,noi->nto", x, weight[owner]) + (bias[owner].unsqueeze(1) if biased else 0)
    found = grouped_linear(x, weight, bias if biased else None, ByClient(counts, CPU))
    torch.testing.assert_close(found, expected)
    leaves, factors = (x, weight, bias)[: 2 + biased], torch.randn(found.shape, generator=draw)
    for one, other in zip(*(torch.autograd.grad((y * factors).sum(), leaves) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_a_client_whose_products_overflow_leaves_the_others_as_they_are():
    draw = torch.Generator().manual_seed(0)
    x, a, b = (torch.randn(shape, generator=draw) for shape in ((6, 4), (3, 2, 4), (3, 3, 2)))
    huge = a.clone()
    huge[1] = a[1].sign() * 3e38  # finite, but its products are not
    found, gradients = [], []
    for factors in (a, huge):
        leaves = [t.clone().requires_grad_() for t in (x, factors, b)]
        result = grouped_lora(torch.ones(6, 3), *leaves, ByClient(np.array([2, 2, 2]), CPU), scaling=2.0)
        found.append(result.detach())
        gradients.append(torch.autograd.grad(result[[0, 1, 4, 5]].sum(), leaves))
    others = [0, 2]
    assert huge.isfinite().all()
    assert not found[1][2:4].isfinite().all()
    assert torch.equal(found[0][[0, 1, 4, 5]], found[1][[0, 1, 4, 5]])
    assert torch.equal(gradients[0][1][others], gradients[1][1][others])
    assert torch.equal(gradients[0][2][others], gradients[1][2][others])
