"""Weights that a checkpoint does not give: trained and saved with the adapter, or the checkpoint is refused."""

import copy

import datasets
import numpy as np
import peft
import pytest
import safetensors.torch
import torch
import transformers

import declora
from declora.errors import ModelError
from declora.model import load_base
from declora.model.new_weights import saved_with
from test_train import assert_batched_equals_alone, tokens_of
from tiny import tiny_bert, tiny_llama, tiny_roberta, tiny_texts

AutoClassifier = transformers.AutoModelForSequenceClassification
IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
SMALL = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 80, **IDS,
}  # fmt: skip
SEQ2SEQ = {
    "vocab_size": 64, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
    "decoder_start_token_id": 3, **IDS,
}  # fmt: skip
T5 = {
    "vocab_size": 64, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "pad_token_id": 0,
    "eos_token_id": 3, "decoder_start_token_id": 0,
}  # fmt: skip
XLM = {
    "vocab_size": 64, "n_words": 64, "emb_dim": 32, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 64,
    "pad_token_id": 0, "pad_index": 0, "bos_index": 2, "eos_index": 3, "unk_index": 1,
}  # fmt: skip
ENDS = {"cls_token_id": 2, "sep_token_id": 3}
MASKED, BASE, CAUSAL = transformers.AutoModelForMaskedLM, transformers.AutoModel, transformers.AutoModelForCausalLM
# Of each family: its configuration, as what it was saved, and which modules are new then beside PEFT's own choice.
FAMILIES = {
    "BERT": (transformers.BertConfig(**SMALL), BASE, set()),
    "BERT, masked": (transformers.BertConfig(**SMALL), MASKED, {"bert.pooler"}),
    "ALBERT, masked": (transformers.AlbertConfig(**SMALL, embedding_size=16), MASKED, {"albert.pooler"}),
    "RoBERTa, masked": (transformers.RobertaConfig(**SMALL), MASKED, set()),
    "DeBERTa-v2": (transformers.DebertaV2Config(**SMALL, type_vocab_size=0), BASE, {"pooler"}),
    "DistilBERT": (
        transformers.DistilBertConfig(
            vocab_size=64, dim=32, n_layers=1, n_heads=2, hidden_dim=64, max_position_embeddings=64, pad_token_id=0
        ),
        BASE,
        set(),  # PEFT takes `pre_classifier` for its `classifier`
    ),
    # What reads padding is evaluated without any, as here one by one.
    "FNet": (transformers.FNetConfig(**{k: v for k, v in SMALL.items() if k != "num_attention_heads"}), BASE, set()),
    "MobileBERT": (
        transformers.MobileBertConfig(
            **SMALL, embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16, type_vocab_size=2
        ),
        BASE,
        set(),
    ),
    "Longformer": (transformers.LongformerConfig(**SMALL, attention_window=4), BASE, set()),
    "XLNet": (
        transformers.XLNetConfig(vocab_size=64, d_model=32, n_layer=1, n_head=2, d_inner=64, pad_token_id=0),
        BASE,
        {"sequence_summary", "logits_proj"},
    ),
    "UMT5": (transformers.UMT5Config(**T5), BASE, {"classification_head"}),
    "ModernBERT": (transformers.ModernBertConfig(**SMALL, **ENDS), BASE, {"head"}),
    "XLM": (transformers.XLMConfig(**XLM), BASE, {"sequence_summary"}),
    "FlauBERT": (transformers.FlaubertConfig(**XLM), BASE, {"sequence_summary"}),
    "BART": (transformers.BartConfig(**SEQ2SEQ), BASE, {"classification_head"}),
    "mBART": (transformers.MBartConfig(**SEQ2SEQ), BASE, {"classification_head"}),
    "MVP": (transformers.MvpConfig(**SEQ2SEQ), BASE, {"classification_head"}),
    "PLBart": (transformers.PLBartConfig(**SEQ2SEQ), BASE, {"classification_head"}),
    "T5": (transformers.T5Config(**T5), BASE, {"classification_head"}),
    "mT5": (transformers.MT5Config(**T5), BASE, {"classification_head"}),
    "Llama": (transformers.LlamaConfig(**SMALL, num_key_value_heads=1), CAUSAL, set()),
}


def saved(model, tokenizer, path):
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture
def checkpoint(tokenizer, tmp_path):
    """Returns the path of a checkpoint of a family, with weights drawn once."""

    def save(family):
        config, kind, _ = FAMILIES[family]
        torch.manual_seed(0)
        return saved(kind.from_config(config), tokenizer, tmp_path / "base")

    return save


@pytest.fixture
def run(tokenizer):
    few = datasets.DatasetDict(train=tiny_texts(24), validation=tiny_texts(8, seed=1))

    def simulate(model, **settings):
        usual = {
            "data": few, "clients": 2, "rounds": 1, "local_steps": 2, "batch_size": 4, "learning_rate": 2e-2,
            "topology": "complete", "codec": "none", "client_eval_samples": 0, "tokenizer": tokenizer, "seed": 1,
        }  # fmt: skip
        return declora.simulate(model=model, **{**usual, **settings})

    return simulate


def loss(model, tokenizer, rows):
    """The mean loss of texts that are computed one by one."""
    losses = []
    with torch.no_grad():
        for row in rows:
            ids = tokenizer(row["text"], return_tensors="pt")["input_ids"]
            target = torch.tensor([row["label"]])
            losses.append(torch.nn.functional.cross_entropy(model(input_ids=ids).logits, target).item())
    return float(np.mean(losses))


def reloaded(path, result, folder, seed, **settings):
    """What PEFT makes of the saved adapter and the checkpoint, whatever transformers draws while it loads that."""
    result.average.save_pretrained(folder)
    torch.manual_seed(seed)
    base = AutoClassifier.from_pretrained(path, **{"num_labels": 2, **settings})
    return peft.PeftModel.from_pretrained(base, folder).eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_adapter_over_the_checkpoint_gives_the_reported_loss(family, run, checkpoint, tokenizer, tmp_path):
    path = checkpoint(family)
    result = run(path)
    reported = result.history["average_loss"].iloc[-1]
    for seed in (1, 2):
        model = reloaded(path, result, tmp_path / "adapter", seed)
        assert loss(model, tokenizer, tiny_texts(8, seed=1)) == pytest.approx(reported, abs=1e-5)
    assert set(result.average.config.modules_to_save) - {"classifier", "score"} == FAMILIES[family][2]


@pytest.mark.parametrize("copied", [False, True], ids=["loaded", "loaded and copied"])
@pytest.mark.parametrize("family", ["BERT, masked", "ModernBERT", "BART"])
def test_a_loaded_model_has_the_same_new_modules_as_its_path(family, copied, run, checkpoint, tokenizer, tmp_path):
    path = checkpoint(family)
    model = AutoClassifier.from_pretrained(path, num_labels=2)
    result = run(copy.deepcopy(model) if copied else model)
    again = loss(reloaded(path, result, tmp_path / "adapter", 1), tokenizer, tiny_texts(8, seed=1))
    assert again == pytest.approx(result.history["average_loss"].iloc[-1], abs=1e-5)
    assert set(result.average.config.modules_to_save) - {"classifier", "score"} == FAMILIES[family][2]


def test_new_modules_are_drawn_from_the_seed_and_named_in_a_note(checkpoint):
    path = checkpoint("BERT, masked")
    one, same, other = (
        load_base(path, task="classification", label_names="ab", seed=seed, device="cpu") for seed in (5, 5, 6)
    )
    assert one.new == ("bert.pooler", "classifier")
    assert torch.equal(one.model.bert.pooler.dense.weight, same.model.bert.pooler.dense.weight)
    assert not torch.equal(one.model.bert.pooler.dense.weight, other.model.bert.pooler.dense.weight)
    (note,) = one.notes
    assert "bert.pooler, classifier" in note


def test_a_head_that_is_new_as_always_needs_no_note(checkpoint):
    base = load_base(checkpoint("BERT"), task="classification", label_names="ab", device="cpu")
    assert (base.new, base.notes) == (("classifier",), ())


def test_norms_trained_together_equal_norms_trained_alone_with_peft(tokenizer):
    """ModernBERT's head has a layer norm beside its linear layer."""
    torch.manual_seed(0)
    config = transformers.ModernBertConfig(**SMALL, **ENDS, norm_bias=True)
    model = transformers.ModernBertForSequenceClassification(config).eval()
    lora = peft.LoraConfig(r=2, target_modules=["Wqkv"], task_type="SEQ_CLS", modules_to_save=["head"])
    assert_batched_equals_alone(model, lora, tokens_of(tokenizer, "classification"))


def test_a_new_pooler_is_trained_over_a_4_bit_base(run, tokenizer, tmp_path):
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    config = transformers.BertConfig(**{**SMALL, "hidden_size": 64})
    path = saved(transformers.BertForMaskedLM(config), tokenizer, tmp_path / "base")
    loaded = AutoClassifier.from_pretrained(path, num_labels=2)
    for model in (path, loaded):
        result = run(model, load_in_4bit=True)
        assert result.facts()["base"].startswith("nf4, ")
        assert any("bert.pooler.dense.weight" in name for name in result.average.state_dict())


def test_a_new_language_model_head_is_trained_and_saved(run, tokenizer, tmp_path):
    path = saved(tiny_llama().model, tokenizer, tmp_path / "base")
    plain = tiny_texts(24).remove_columns("label")
    result = run(path, data=plain, eval_data=plain, task="causal-lm", lora={"r": 2, "target_modules": ["q_proj"]})
    result.average.save_pretrained(tmp_path / "adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(path)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    total = count = 0.0
    with torch.no_grad():
        for text in plain["text"]:
            ids = tokenizer(text + tokenizer.eos_token, return_tensors="pt")["input_ids"]
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    assert total / count == pytest.approx(result.history["average_loss"].iloc[-1], abs=1e-5)


def test_a_module_whose_name_ends_like_others_is_told_apart_as_peft_does():
    """EuroBERT has a new module `dense`, and other modules may end so, too."""
    model = tiny_bert()
    model.dense = torch.nn.Linear(2, 2)
    assert saved_with(model, ["dense", "classifier"], ["classifier"]) == ["model.dense"]
    assert saved_with(model, ["bert.pooler", "classifier"], ["classifier"]) == ["bert.pooler"]
    model.cls_head = torch.nn.ModuleDict({"classifier": torch.nn.Linear(2, 2)})
    assert saved_with(model, ["cls_head.classifier"], ["classifier", "score"]) == []


@pytest.mark.parametrize("sharded", [False, True], ids=["one file", "several files"])
def test_adapters_over_a_model_that_was_changed_since_it_was_loaded_name_no_base(sharded, run, tokenizer, tmp_path):
    path = str(tmp_path / "base")
    tiny_bert().save_pretrained(path, max_shard_size="20KB" if sharded else "1GB")
    tokenizer.save_pretrained(path)
    lora = peft.LoraConfig(r=2, target_modules=["value"], task_type="SEQ_CLS", init_lora_weights=False)
    merged = peft.get_peft_model(AutoClassifier.from_pretrained(path), lora).merge_and_unload()
    result = run(merged)
    assert result.average.config.base_model_name_or_path is None
    (note,) = [note for note in result.notes if "adapters name no base" in note]
    assert f"{path!r} holds any more (bert.encoder.layer.0.attention.self.value.weight was changed)" in note
    again = loss(
        reloaded(saved(merged, tokenizer, tmp_path / "merged"), result, tmp_path / "adapter", 1),
        tokenizer,
        tiny_texts(8, seed=1),
    )
    assert again == pytest.approx(result.history["average_loss"].iloc[-1], abs=1e-5)


@pytest.mark.parametrize("rounded", [torch.float16, torch.bfloat16], ids=str)
def test_a_model_that_was_rounded_or_got_a_new_head_still_has_its_base(rounded, run, checkpoint):
    path = checkpoint("BERT, masked")
    model = AutoClassifier.from_pretrained(path, num_labels=2).to(rounded).float()
    torch.nn.init.ones_(model.classifier.weight)
    assert run(model).average.config.base_model_name_or_path == path


# --- what is refused


def rewritten(path, change):
    """Changes the tensors of a checkpoint."""
    file = f"{path}/model.safetensors"
    tensors = dict(safetensors.torch.load_file(file))
    change(tensors)
    safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    return path


@pytest.mark.parametrize(
    "missing",
    ["encoder.layer.1.attention.self.query.weight", "embeddings.position_embeddings.weight"],
)
def test_a_backbone_that_would_be_random_in_part_is_refused(missing, run, checkpoint):
    path = rewritten(checkpoint("BERT"), lambda tensors: tensors.pop(missing))
    with pytest.raises(ModelError, match=f"lacks the weight 'bert.{missing}'"):
        run(path)
    with pytest.raises(ModelError, match=f"lacks the weight 'bert.{missing}'"):
        run(AutoClassifier.from_pretrained(path, num_labels=2))


def test_a_model_that_was_resized_after_it_was_loaded_is_refused(run, checkpoint, tokenizer, tmp_path):
    path = checkpoint("BERT")
    model = AutoClassifier.from_pretrained(path, num_labels=2)
    model.resize_token_embeddings(70)
    with pytest.raises(ModelError, match=r"word_embeddings.weight' is 70x32, and 64x32 in its checkpoint .*save_pre"):
        run(model)
    run(saved(model, tokenizer, tmp_path / "resized"))


def test_a_head_for_other_classes_is_refused_unless_the_user_replaces_it(run, tokenizer, tmp_path):
    path = saved(tiny_bert(labels=2), tokenizer, tmp_path / "two")
    three = datasets.DatasetDict(train=tiny_texts(24, 3), validation=tiny_texts(9, 3, seed=1))
    with pytest.raises(ModelError, match=r"has a head for 2 classes, the data has 3.*ignore_mismatched_sizes=True"):
        run(path, data=three)
    again = {"num_labels": 3, "ignore_mismatched_sizes": True}
    result = run(AutoClassifier.from_pretrained(path, **again), data=three)
    model = reloaded(path, result, tmp_path / "adapter", 7, **again)
    reported = result.history["average_loss"].iloc[-1]
    assert loss(model, tokenizer, three["validation"]) == pytest.approx(reported, abs=1e-5)


@pytest.mark.parametrize("passed", ["path", "object"])
def test_a_kept_head_with_the_classes_in_another_order_is_refused(passed, run, tokenizer, tmp_path):
    classes = datasets.ClassLabel(names=["negative", "positive"])
    data = datasets.DatasetDict(train=tiny_texts(24), validation=tiny_texts(8)).cast_column("label", classes)
    model = tiny_bert()
    for names, told in ((["Positive", "Negative"], None), (["Negative", "Positive"], 0), (["cat", "dog"], 1)):
        model.config.id2label = dict(enumerate(names))
        path = saved(model, tokenizer, tmp_path / names[0])
        given = path if passed == "path" else model
        if told is None:
            with pytest.raises(ModelError, match=r"classes Positive, Negative, in this order; the data .* negative, "):
                run(given, data=data)
            continue
        run(given, data=data)
        base = load_base(given, task="classification", label_names=classes.names, tokenizer=tokenizer, device="cpu")
        assert sum("was trained for the classes cat, dog" in note for note in base.notes) == told


def test_weights_that_are_no_numbers_are_named(run, checkpoint, tokenizer, tmp_path):
    name = "encoder.layer.1.output.dense.weight"
    path = rewritten(checkpoint("BERT"), lambda tensors: tensors[name].view(-1)[5].fill_(float("nan")))
    with pytest.raises(ModelError, match=f"'bert.{name}' has values that are not finite"):
        run(path)
    model = tiny_roberta(2)
    with torch.no_grad():
        model.roberta.embeddings.word_embeddings.weight[3, 1] = float("inf")
    with pytest.raises(ModelError, match=r"'roberta\.embeddings\.word_embeddings\.weight' has values"):
        run(model)


def test_a_module_within_one_that_is_trained_anyway_is_refused(run):
    model = tiny_roberta(2)
    with pytest.raises(ModelError, match=r"modules_to_save: 'classifier\.dense' is in 'classifier', which is trained"):
        run(model, lora={"r": 2, "modules_to_save": ["classifier.dense"]})
    with pytest.raises(ModelError, match=r"'classifier\.dense' is in 'classifier'"):
        run(model, lora={"r": 2, "modules_to_save": ["dense"]})
