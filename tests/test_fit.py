"""Whether base, tokenizer and texts fit: padding, places, tokens, ends, and models that are of another kind."""

import datasets
import numpy as np
import pytest
import torch
import transformers

import declora
from declora.errors import ModelError
from declora.model import load_base
from declora.model.limits import padding_of, positions
from declora.train.fit import fit_classifier
from declora.train.tokens import tokenize
from tiny import tiny_bert, tiny_gpt2, tiny_llama, tiny_roberta, tiny_texts

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
ENDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


@pytest.fixture
def run(tokenizer):
    few = datasets.DatasetDict(train=tiny_texts(24), validation=tiny_texts(12, seed=1))

    def simulate(model, **settings):
        usual = {
            "data": few, "clients": 2, "rounds": 1, "local_steps": 1, "batch_size": 4, "learning_rate": 1e-12,
            "client_eval_samples": 0, "tokenizer": tokenizer, "lora": {"r": 2},
        }  # fmt: skip
        return declora.simulate(model=model, **{**usual, **settings})

    return simulate


def classifier(kind=transformers.LlamaConfig, **fields):
    torch.manual_seed(0)
    config = kind(**{**SMALL, **ENDS, "num_labels": 2, "initializer_range": 0.2, **fields})
    return transformers.AutoModelForSequenceClassification.from_config(config).eval()


def loss_one_by_one(model, tokenizer, rows):
    losses = []
    for row in rows:
        with torch.no_grad():
            logits = model(input_ids=tokenizer(row["text"], return_tensors="pt")["input_ids"]).logits
        losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor([row["label"]])).item())
    return float(np.mean(losses))


# --- padding


@pytest.mark.parametrize("unpad", [True, False], ids=["unpadded", "padded"])
@pytest.mark.parametrize("pad", [0, 3, 9, -1, 64, None], ids=str)
def test_a_decoder_reads_of_each_text_what_it_reads_of_it_alone(pad, unpad, run, tokenizer):
    """`pad` is config.pad_token_id: the tokenizer's, the one that ends each text, a word, none of the model's, or none.

    Alone, the last token counts that is not `pad`; there is nothing to fill.
    """
    model = classifier()
    model.config.pad_token_id = pad
    rows = tiny_texts(12, seed=1)
    result = run(model, unpad=unpad)
    assert result.history["average_loss"].iloc[-1] == pytest.approx(loss_one_by_one(model, tokenizer, rows), abs=1e-6)
    assert model.config.pad_token_id == pad


def test_a_tokenizer_without_a_padding_token_is_left_without(run, tokenizer):
    tokenizer.pad_token = None
    model = classifier(pad_token_id=None)
    result = run(model)
    rows = tiny_texts(12, seed=1)
    assert result.history["average_loss"].iloc[-1] == pytest.approx(loss_one_by_one(model, tokenizer, rows), abs=1e-6)
    assert tokenizer.pad_token_id is None


def test_padding_is_the_models_own_else_the_tokenizers_else_a_token_of_no_text():
    ids = [np.array([1, 2, 5]), np.array([0, 2])]
    assert padding_of(classifier(pad_token_id=5), 7, ids) == 5
    assert padding_of(classifier(pad_token_id=-1), 7, ids) == 7
    assert padding_of(classifier(pad_token_id=None), 2, ids) == 3
    assert padding_of(classifier(pad_token_id=None), None, ids) == 3
    with pytest.raises(ModelError, match="every token that it knows"):
        padding_of(classifier(pad_token_id=None), 2, [np.arange(64)])


def fitted(model, tokenizer, **settings):
    base = load_base(model, task="classification", label_names="ab", tokenizer=tokenizer, device="cpu")
    rows = tiny_texts(20)
    columns = {"text_columns": ["text"], "label_column": "label", "max_length": 64}
    tokens = tokenize(rows, tokenizer, task="classification", **columns)
    base, (tokens,) = fit_classifier(base, [tokens], classes=2, max_length=64)
    return base, tokens, rows


def test_a_model_that_reads_the_end_of_a_row_is_filled_at_its_beginning(tokenizer):
    """XLNet takes the last place of a row for the end of the text, whatever stands there."""
    config = transformers.XLNetConfig(vocab_size=64, d_model=32, n_layer=2, n_head=2, d_inner=64, initializer_range=0.2)
    torch.manual_seed(0)
    model = transformers.XLNetForSequenceClassification(config).eval()
    base, tokens, rows = fitted(model, tokenizer)
    assert tokens.padding_side == "left"
    assert base.notes == ()
    batch = tokens.batch(np.arange(len(rows)), torch.device("cpu"))
    with torch.no_grad():
        together = model(**batch.inputs).logits
        alone = [model(input_ids=tokenizer(text, return_tensors="pt")["input_ids"]).logits for text in rows["text"]]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-5)


def test_a_model_that_reads_padding_wherever_it_is_says_so(tokenizer):
    """FNet mixes all places of a row and knows no mask."""
    fields = {name: SMALL[name] for name in SMALL if name != "num_attention_heads"}
    torch.manual_seed(0)
    model = transformers.FNetForSequenceClassification(transformers.FNetConfig(**fields, initializer_range=0.2)).eval()
    base, _, _ = fitted(model, tokenizer)
    assert any("reads padding" in note for note in base.notes)


def test_token_types_are_left_out_where_the_model_has_none(run, tokenizer):
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    run(classifier(transformers.MPNetConfig, max_position_embeddings=64))


# --- places and tokens


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (tiny_bert, 64),
        (lambda: tiny_roberta(2), 79),  # of 80; it begins to count after the place of padding, 0
        (lambda: classifier(transformers.MPNetConfig, pad_token_id=1, max_position_embeddings=64), 62),
        (tiny_gpt2, 64),
        (tiny_llama, 64),
        (lambda: classifier(transformers.BloomConfig), None),
    ],
    ids=["BERT", "RoBERTa", "MPNet", "GPT-2", "Llama", "Bloom"],
)
def test_places_for_tokens(make, expected):
    assert positions(make()) == expected


def test_learned_places_count_where_no_setting_says_how_many():
    model = tiny_bert()
    model.config.max_position_embeddings = -1
    assert positions(model) == 64


@pytest.mark.parametrize(("make", "places"), [(tiny_bert, 64), (lambda: tiny_roberta(2), 79)], ids=["BERT", "RoBERTa"])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_text_that_the_model_has_no_places_for_is_refused(split, make, places, run):
    long = {"text": [" ".join(["w1"] * 90), "w2 w3"], "label": [0, 1]}
    other = {"text": ["w1 w2", "w3"], "label": [0, 1]}
    splits = {name: long if name == split else other for name in ("train", "validation")}
    data = datasets.DatasetDict({name: datasets.Dataset.from_dict(rows) for name, rows in splits.items()})
    with pytest.raises(ModelError, match=rf"max_length=128 lets a text of 92 tokens .* has {places} positions"):
        run(make(), data=data)
    run(make(), data=data, max_length=places)


def test_rows_of_packed_text_that_the_model_has_no_places_for_are_refused(run):
    """No text is long, but a row of them is."""
    plain = tiny_texts(40).remove_columns("label")
    with pytest.raises(ModelError, match=r"max_length=128 lets a text of 128 tokens .* has 64 positions"):
        run(tiny_gpt2(), data=plain, eval_data=plain, packing=True)
    run(tiny_gpt2(), data=plain, eval_data=plain, packing=True, max_length=64)


@pytest.mark.parametrize("kind", ["BERT", "Llama", "Llama, text to continue"])
def test_a_token_without_an_embedding_is_refused(kind, run):
    if kind == "Llama, text to continue":
        model, settings = (
            transformers.LlamaForCausalLM(tiny_llama().config.__class__(**{**SMALL, "vocab_size": 12})),
            {"task": "causal-lm"},
        )
    else:
        config = transformers.BertConfig if kind == "BERT" else transformers.LlamaConfig
        model, settings = classifier(config, vocab_size=12), {}
    with pytest.raises(ModelError, match=r"tokenizer gives token \d+, but \w+ has 12 embeddings"):
        run(model, **settings)


def test_a_padding_token_that_the_model_does_not_know_is_not_used(run, tokenizer):
    """It was added to the tokenizer alone; nobody looks at the places that it fills."""
    plain = tiny_texts(12).remove_columns("label")
    usual = run(tiny_gpt2(), data=plain, eval_data=plain)
    tokenizer.add_special_tokens({"pad_token": "[NEW]"})
    assert tokenizer.pad_token_id == 64
    assert torch.equal(run(tiny_gpt2(), data=plain, eval_data=plain).average.row, usual.average.row)
    model = classifier()
    model.config.pad_token_id = None
    run(model)


def test_texts_that_the_tokenizer_does_not_know_are_refused_or_named(run):
    strange = {"text": ["x y z", "u v", "r s t", "q"], "label": [0, 1, 0, 1]}
    mixed = {"text": ["x y w1", "u v w2", "r s w3", "q w4"], "label": [0, 1, 0, 1]}
    for rows, known in ((strange, False), (mixed, True)):
        data = datasets.Dataset.from_dict(rows)
        if known:
            with pytest.warns(UserWarning, match=r"14 of 22 words of the texts are unknown"):
                run(tiny_bert(), data=data, eval_data=data)
        else:
            with pytest.raises(ModelError, match=r"18 of 18 words .* Use the tokenizer that the model was trained"):
                run(tiny_bert(), data=data, eval_data=data)


def test_a_classifier_that_looks_for_the_end_of_a_text_needs_one_in_each(run, tokenizer):
    seq2seq = {
        "vocab_size": 64, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
        "decoder_start_token_id": 3, "num_labels": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BartForSequenceClassification(transformers.BartConfig(**seq2seq, **ENDS)).eval()
    twice = datasets.Dataset.from_dict({"text": ["w1 [SEP] w2", "w3", "w4", "w5"], "label": [0, 1, 0, 1]})
    with pytest.raises(ModelError, match=r"wants as many in each; the texts have 1 to 2"):
        run(model, data=twice, eval_data=twice)
    # Where padding would be taken for another end, rows are filled with something else.
    model.config.pad_token_id = 3
    rows = tiny_texts(12, seed=1)
    result = run(model)
    assert result.history["average_loss"].iloc[-1] == pytest.approx(loss_one_by_one(model, tokenizer, rows), abs=1e-6)


# --- models of another kind

BERT = transformers.BertConfig(**SMALL, max_position_embeddings=64)
GPT2 = transformers.GPT2Config(vocab_size=64, n_embd=32, n_layer=1, n_head=2, n_positions=64, **ENDS)
T5 = transformers.T5Config(vocab_size=64, d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, **ENDS)
VIT = transformers.ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
WRONG = {
    "no head": (transformers.BertModel(BERT), "classification", "has no head .*AutoModelForSequenceClassification"),
    "a head for tokens": (transformers.BertForTokenClassification(BERT), "classification", "gives 2x.*2x2"),
    "a masked language model": (transformers.BertForMaskedLM(BERT), "classification", "gives 2x.*2x2"),
    "a head for answers": (transformers.BertForQuestionAnswering(BERT), "classification", "has no head"),
    "a vision model": (transformers.ViTForImageClassification(VIT), "classification", "cannot compute texts"),
    "an encoder": (transformers.BertForMaskedLM(BERT), "causal-lm", "is an encoder and cannot continue text"),
    "no language head": (transformers.GPT2Model(GPT2), "causal-lm", "has no head .*AutoModelForCausalLM"),
    "a classifier": (transformers.GPT2ForSequenceClassification(GPT2), "causal-lm", "no scores of the next token"),
    "encoder and decoder": (transformers.T5ForConditionalGeneration(T5), "causal-lm", "cannot compute texts"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_model_of_another_kind_is_refused_by_what_it_is(kind, run):
    model, task, message = WRONG[kind]
    with pytest.raises(ModelError, match=message):
        run(model.eval(), task=task)


def test_a_sequence_to_sequence_checkpoint_is_no_decoder(run, tokenizer, tmp_path):
    transformers.T5ForConditionalGeneration(T5).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a t5, which writes an answer to a text but does not continue it"):
        run(str(tmp_path), task="causal-lm")
