"""Folders that are no models: each is a ModelError of one line; and code that comes with a model does not run."""

import json
import random
import shutil
import sys

import datasets
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models
from transformers import dynamic_module_utils

import declora
from declora.errors import DecloraError, ModelError
from declora.model import load_base
from tiny import tiny_bert, tiny_texts

FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@pytest.fixture
def folder(tokenizer, tmp_path):
    tiny_bert().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(path, **settings):
    return load_base(str(path), task="classification", label_names="ab", device="cpu", **settings)


def simulate(path, **settings):
    data = datasets.DatasetDict(train=tiny_texts(12), validation=tiny_texts(6, seed=1))
    few = {"clients": 2, "rounds": 1, "local_steps": 1, "batch_size": 2, "client_eval_samples": 0}
    return declora.simulate(model=str(path), data=data, **{**few, **settings})


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a": torch.nn.Linear}, folder / "pytorch_model.bin")


def edited(file, change):
    def edit(folder):
        content = json.loads((folder / file).read_text())
        change(content)
        (folder / file).write_text(json.dumps(content))

    return edit


def truncated(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


FAULTS = {
    "half a file of weights": truncated,
    "an empty file of weights": lambda folder: (folder / "model.safetensors").write_bytes(b""),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "a pickle with a class in it": pickled,
    "no config.json": lambda folder: (folder / "config.json").unlink(),
    "config.json is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "config.json is no JSON": lambda folder: (folder / "config.json").write_text("{"),
    "config.json is no UTF-8": lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{}"),
    "an unknown model": edited("config.json", lambda config: config.update(model_type="nobody-knows")),
    "no kind of model": edited("config.json", lambda config: config.pop("model_type")),
    "a vision model": edited("config.json", lambda config: config.update(model_type="vit")),
    "heads that do not divide": edited("config.json", lambda config: config.update(num_attention_heads=5)),
    "a width that is a text": edited("config.json", lambda config: config.update(hidden_size="32")),
    "a width of other weights": edited("config.json", lambda config: config.update(hidden_size=64)),
    "more layers than weights": edited("config.json", lambda config: config.update(num_hidden_layers=5)),
    "an empty tokenizer.json": lambda folder: (folder / "tokenizer.json").write_text("{}"),
    "no tokenizer": lambda folder: [(folder / f"tokenizer{end}.json").unlink() for end in ("", "_config")],
    "a tokenizer of numbers": edited("tokenizer.json", lambda content: content.update(model=3)),
    "no folder": shutil.rmtree,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_is_no_model_is_refused_in_one_line(fault, folder):
    load(folder)
    FAULTS[fault](folder)
    with pytest.raises(ModelError) as refusal:
        load(folder)
    assert str(folder) in str(refusal.value) or "checkpoint" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 900


def test_nothing_but_errors_of_declora_comes_of_damaged_folders(folder, tmp_path):
    """40 damages of fixed seeds: changed, lost and added bytes, and fields of the JSON files set to something else."""
    values = [None, -1, 0, 1.5, "x", "", [], {}, True, 10**5, [1, 2], {"a": 1}]
    refusals = []
    for seed in range(40):
        draw = random.Random(seed)
        copy = shutil.copytree(folder, tmp_path / f"copy{seed}")
        file = copy / draw.choice(FILES)
        content = bytearray(file.read_bytes())
        if file.suffix == ".json" and draw.random() < 0.5:
            table = json.loads(content)
            inner = [table, *(value for value in table.values() if isinstance(value, dict) and value)]
            part = draw.choice(inner)
            part[draw.choice(sorted(part))] = draw.choice(values)
            content = json.dumps(table).encode()
        else:
            at = draw.randrange(min(len(content), 2000))
            content[at : at + draw.choice([0, 1, 40])] = bytes(draw.randrange(256) for _ in range(draw.choice([0, 3])))
        file.write_bytes(content)
        try:
            simulate(copy, lora={"r": 2, "target_modules": ["query"]}, progress=False)
        except DecloraError as error:
            refusals.append(str(error))
        shutil.rmtree(copy)
    assert len(refusals) > 10
    assert not [refusal for refusal in refusals if "\n" in refusal]


def test_memory_that_ends_and_ctrl_c_are_not_the_models_fault(folder, monkeypatch):
    for stop in (MemoryError, KeyboardInterrupt):

        def raises(*_, stop=stop, **__):
            raise stop

        monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", raises)
        with pytest.raises(stop):
            load(folder)


def test_an_adapter_is_no_model(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "bert-base-uncased"}))
    with pytest.raises(ModelError, match=r"is an adapter over 'bert-base-uncased'.*merge_and_unload\(\)"):
        load(folder)


# --- tokenizers


def test_a_tokenizer_may_be_given_by_its_path(folder, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "words")
    usual = simulate(folder)
    FAULTS["no tokenizer"](folder)
    for given in (str(tmp_path / "words"), tmp_path / "words", tokenizer):
        assert torch.equal(simulate(folder, tokenizer=given).average.row, usual.average.row)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Tokenizer(models.WordLevel({"a": 0})), r"tokenizer is a Tokenizer\. .*PreTrainedTokenizerFast"),
        (5, "tokenizer is a int"),
        ("/no/where", "tokenizer of '/no/where' could not be loaded"),
    ],
    ids=["bare", "a number", "nowhere"],
)
def test_something_else_than_a_tokenizer_is_refused(given, message, folder):
    with pytest.raises(ModelError, match=message):
        load(folder, tokenizer=given)


@pytest.mark.parametrize("kind", ["BertConfig", "RobertaConfig", "GPT2Config", "Qwen2Config"])
def test_a_tokenizer_that_knows_no_words_is_refused(kind, tmp_path):
    config = getattr(transformers, kind)(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
    config.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"knows no words, only \d+ special tokens: its files are missing"):
        load(tmp_path / "config.json")


def test_a_model_from_nowhere_needs_a_tokenizer():
    with pytest.raises(
        ModelError, match=r"tokenizer of 'BertForSequenceClassification' could not be loaded: the model names no place"
    ):
        load_base(tiny_bert(), task="classification", label_names="ab", device="cpu")


# --- code that comes with a model

CODE = """
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
open({mark!r}, "w").close()
class MineConfig(BertConfig):
    model_type = "mine"
class MineModel(BertForSequenceClassification):
    config_class = MineConfig
class MineTokenizer(PreTrainedTokenizerFast):
    pass
"""
MAPS = {
    "config.json": {"AutoConfig": "mine.MineConfig", "AutoModelForSequenceClassification": "mine.MineModel"},
    "tokenizer_config.json": {"AutoTokenizer": [None, "mine.MineTokenizer"]},
}


@pytest.fixture
def with_code(folder, tmp_path, monkeypatch):
    """A folder whose Python leaves a mark; whoever is asked whether it may run, says yes."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "mine.py").write_text(CODE.format(mark=str(folder / "mark")))
    for file, mapping in MAPS.items():
        edited(file, lambda content, mapping=mapping: content.update(auto_map=mapping))(folder)
    edited("config.json", lambda config: config.update(model_type="mine"))(folder)
    edited("tokenizer_config.json", lambda config: config.update(tokenizer_class="MineTokenizer"))(folder)
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    monkeypatch.setattr(sys, "stdin", None)
    return folder


def test_code_of_a_model_does_not_run_and_nobody_is_asked(with_code):
    for path in (with_code, with_code / "config.json"):
        with pytest.raises(
            ModelError, match=r"brings Python code of its own, which is not run .*trust_remote_code=True"
        ):
            simulate(path)
    assert not (with_code / "mark").exists()


def test_code_of_a_tokenizer_does_not_run(with_code):
    tiny_bert().save_pretrained(with_code)  # the model is one that transformers knows
    load(with_code)
    assert not (with_code / "mark").exists()


def test_code_runs_where_the_user_says_so(with_code):
    simulate(with_code, trust_remote_code=True)
    assert (with_code / "mark").exists()
