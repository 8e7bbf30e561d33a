"""Evaluation: which samples, in which batches, and that the scores are those of the model itself."""

import numpy as np
import peft
import pytest
import torch

from declora.metrics import METRICS
from declora.model import AdapterBank
from declora.model.frozen import product_rows
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.model.unpad import Unpadding
from declora.train.evaluate import Score, evaluate, sample_texts
from declora.train.scored import ScoredHead
from declora.train.sharing import Sharing
from test_train import tokens_of
from tiny import tiny_bert, tiny_gpt2

KINDS = {
    "classification": (tiny_bert, "SEQ_CLS", ["query"], "accuracy"),
    "causal-lm": (tiny_gpt2, "CAUSAL_LM", ["c_attn"], "perplexity"),
}


@pytest.fixture(params=KINDS)
def scored(request, tokenizer):
    """A model with an adapter that is not the first one, its tokens, and the metric of its task."""
    make, task_type, targets, metric = KINDS[request.param]
    model, rows = make(), RowOwners()
    surgery = Surgery(model, peft.LoraConfig(r=2, target_modules=targets, task_type=task_type), rows, seed=3)
    bank = AdapterBank(surgery.layout, surgery.slots, rows)
    bank.fill(surgery.initial, 2, torch.device("cpu"))
    bank.P += 0.1 * torch.randn(bank.P.shape, generator=torch.Generator().manual_seed(5))
    return model, bank, tokens_of(tokenizer, request.param), METRICS[metric]


def one_by_one(model, bank, tokens, texts):
    """Loss (a mean over targets) and predictions, a text at a time by the model's own loss."""
    losses, targets, predicted = [], [], []
    for text in texts:
        batch = tokens.batch(np.array([text]), torch.device("cpu"))
        bank.owners.owner, bank.owners.count = None, 1
        with torch.no_grad():
            output = model(**batch.inputs, labels=batch.labels)
        targets.append(int(tokens.targets(np.array([text]))[0]))
        losses.append(float(output.loss) * targets[-1])
        predicted.append(int(output.logits[0].argmax()))
    return sum(losses) / sum(targets), np.array(predicted)


def sharing_of(model, bank, tokens, way):
    """How sequences share passes: without padding and with targets alone where the model can, or as they come."""
    bank.bind(bank.P[:1])
    batch = tokens.batch(np.arange(4), torch.device("cpu"))
    with bank.owners.computing(4):
        head = ScoredHead.of(model, batch)
    assert (head is not None) == (tokens.labels is None)
    return Sharing(True, Unpadding.of(model, bank.owners), head) if way == "unpadded" else Sharing(way == "together")


@pytest.mark.parametrize(
    ("budget", "way"), [(1, "together"), (40, "unpadded"), (2048, "unpadded"), (2048, "together"), (2048, "apart")]
)
def test_scores_of_adapters_are_those_of_one_text_at_a_time_whatever_the_batches(scored, monkeypatch, budget, way):
    """In 2,048 tokens there is room for all texts of both adapters in one pass."""
    model, bank, tokens, metric = scored
    monkeypatch.setattr("declora.train.evaluate.TOKENS_PER_BATCH", {"cpu": budget})
    texts, passes = np.arange(5, 45, 2), []
    sharing = sharing_of(model, bank, tokens, way)
    hook = model.get_input_embeddings().register_forward_hook(lambda *_: passes.append(1))
    scores = evaluate(model, bank, bank.P, tokens, texts, metric, sharing)
    hook.remove()
    assert budget < 2048 or len(passes) == (2 if way == "apart" else 1)
    for score, row in zip(scores, bank.P, strict=True):
        bank.bind(row.unsqueeze(0))
        loss, predicted = one_by_one(model, bank, tokens, texts)
        assert score.loss == pytest.approx(loss, abs=1e-5)
        if metric.name == "perplexity":
            assert score.metrics == {"perplexity": pytest.approx(np.exp(loss), rel=1e-5)}
            assert score.quality == score.metrics["perplexity"]
            continue
        labels = tokens.labels[texts]
        assert score.quality == score.metrics["accuracy"] == np.mean(predicted == labels)
        hits = np.sum(predicted & labels)
        assert score.metrics["f1"] == pytest.approx(2 * hits / (predicted.sum() + labels.sum()))
    assert scores[0].loss != scores[1].loss


@pytest.mark.parametrize("scored", ["classification"], indirect=True)
def test_without_padding_a_block_computes_tokens_alone(scored):
    model, bank, tokens, metric = scored
    bank.bind(bank.P[:1])
    texts, computed = np.arange(12), []
    block = model.bert.encoder.layer[0].intermediate
    for unpadding in (None, Unpadding.of(model, bank.owners)):
        hook = block.register_forward_pre_hook(lambda _, args: computed.append(args[0][..., 0].numel()))
        evaluate(model, bank, bank.P[1:2], tokens, texts, metric, Sharing(True, unpadding))
        hook.remove()
    lengths = tokens.lengths[texts]
    # Numbers of rows are rounded up to the next for which a product is made.
    assert computed == [lengths.max() * len(texts), product_rows(int(lengths.sum()))]
    assert computed[1] < computed[0]


def test_a_record_has_loss_and_metrics_under_its_prefix():
    score = Score(0.5, {"accuracy": 0.7, "f1": 0.6}, "f1")
    assert score.record("average_") == {"average_loss": 0.5, "average_accuracy": 0.7, "average_f1": 0.6}
    assert score.record() == {"loss": 0.5, "accuracy": 0.7, "f1": 0.6}
    assert score.quality == 0.6


@pytest.mark.parametrize("scored", ["causal-lm"], indirect=True)
def test_a_perplexity_beyond_the_floats_is_large_not_an_error(scored):
    model, bank, tokens, metric = scored
    with torch.no_grad():
        model.lm_head.weight.mul_(1e4)
    (score,) = evaluate(model, bank, bank.P[:1], tokens, np.arange(4), metric, Sharing(True))
    assert score.loss > 700
    assert score.metrics["perplexity"] == pytest.approx(np.exp(700.0))


def test_samples_are_drawn_by_the_seed_without_repetition_in_order_and_all_where_few(tokenizer):
    tokens = tokens_of(tokenizer, "classification")
    drawn = [sample_texts(len(tokens), 20, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0].tolist() == drawn[1].tolist() != drawn[2].tolist()
    for texts in drawn:
        assert len(set(texts.tolist())) == 20
        assert texts.tolist() == sorted(texts)
        # A head or a tail of the data is drawn with a chance of 1 in C(60, 20), about 4e15.
        assert texts[-1] - texts[0] > 19
    for most in (None, 60, 99):
        assert sample_texts(len(tokens), most, seed=1).tolist() == list(range(60))
    assert sample_texts(len(tokens), 0, seed=1).tolist() == []
    assert len(sample_texts(len(tokens), 59, seed=1)) == 59


def test_every_sample_is_drawn_as_often_as_another(tokenizer):
    """Over 600 seeds a sample is one of 20 of 60 in 200 draws, with a standard deviation of sqrt(600 x 2/9) = 11.5."""
    tokens = tokens_of(tokenizer, "classification")
    counts = np.bincount(
        np.concatenate([sample_texts(len(tokens), 20, seed=seed) for seed in range(600)]), minlength=60
    )
    assert np.abs(counts - 200).max() < 5 * 11.5
