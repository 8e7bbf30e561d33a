"""Adapters that describe themselves: their folders load by their own cards, and they answer as they were evaluated."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import peft
import pytest
import torch
import transformers

import declora
from declora.adapters.card import base_name
from declora.errors import ConfigError, DataError, ModelError
from resumable import write_adapters
from tiny import tiny_bert, tiny_llama, tiny_texts, tiny_tokenizer

EIGHT = ["arts", "law", "sea's", 'a "word"', "x|y", "<b>", "naïve", "eight"]
LORA = {"r": 2, "target_modules": ["query", "value"]}


def named(count, names):
    return tiny_texts(count, len(names)).cast_column("label", datasets.ClassLabel(names=names))


def splits(rows):
    return datasets.DatasetDict(train=rows, validation=rows.select(range(16)))


PAIRS = tiny_texts(32).add_column("other", tiny_texts(32, seed=3)["text"]).rename_column("text", "one")
PROMPTS = datasets.Dataset.from_dict(
    {"prompt": [f"w{i} w{i + 1}" for i in range(24)], "completion": [f"w{i + 2}" for i in range(24)]}
)
PLAIN = PROMPTS.select_columns("prompt")
PLAINLY = {"lora": {"r": 2, "target_modules": ["q_proj"]}}
DECODER = {"max_new_tokens": 3, **PLAINLY}
RUNS = {
    "two": (lambda: tiny_bert().bert, {"data": splits(named(32, ["no", "yes"])), "lora": LORA}),
    "eight": (lambda: tiny_bert().bert, {"data": splits(named(64, EIGHT)), "lora": LORA}),
    "pairs": (lambda: tiny_bert(2), {"data": splits(PAIRS), "lora": LORA, "text_columns": ["one", "other"]}),
    "decoder": (tiny_llama, {"data": splits(PROMPTS), "prompt_template": "{prompt} w0 ", **DECODER}),
    "plain": (tiny_llama, {"data": splits(PLAIN), "task": "causal-lm", "text_columns": ["prompt"], **PLAINLY}),
}  # fmt: skip
TEXTS = ["w1 w2 w3", "w50 w51", "w7 w8 w9 w10 w11 w12"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("adapters")


@pytest.fixture(scope="module")
def results(place):
    """A run of each task over a base in a folder, each with the folder of its averaged adapter."""
    found = {}
    for name, (make, settings) in RUNS.items():
        base = place / f"{name}-base"
        make().save_pretrained(base)
        tiny_tokenizer().save_pretrained(base)
        few = {"clients": 2, "rounds": 1, "local_steps": 2, "batch_size": 4, "learning_rate": 2e-2, "progress": False}
        found[name] = declora.simulate(model=str(base), client_eval_samples=0, **few, **settings)
        found[name].average.save_pretrained(place / name)
    return found


def card(folder):
    return (Path(folder) / "README.md").read_text(encoding="utf-8")


def snippet(folder):
    (code,) = re.findall(r"^```python\n(.*?)^```", card(folder), re.S | re.M)
    return code


def test_each_folder_loads_by_the_code_in_its_card_where_declora_is_not(results, place):
    runner = place / "run.py"
    runner.write_text(
        "import contextlib, io, os, sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'declora':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "for folder, code in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "    os.chdir(folder)\n"
        "    names, shown = {}, io.StringIO()\n"
        "    with contextlib.redirect_stdout(shown):\n"
        "        exec(code, names)\n"
        "    print(repr((type(names['model']).__name__, names.get('labels'), shown.getvalue())))\n"
        "assert 'declora' not in sys.modules\n"
    )
    codes = {name: snippet(place / name) for name in RUNS}
    codes["two"] = results["two"].average.loading_code(str(place / "two"))  # as the page of a run has it
    pairs = [part for name in RUNS for part in (str(place / name), codes[name])]
    # Nothing of this machine's Python path either: the folders and PEFT are all there is.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", str(runner), *pairs]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=place)
    assert shown.returncode == 0, shown.stderr
    loaded = dict(zip(RUNS, map(eval, shown.stdout.splitlines()), strict=True))
    for name, names in {"two": ["no", "yes"], "eight": EIGHT, "pairs": ["0", "1"]}.items():
        kind, labels, said = loaded[name]
        assert kind == "PeftModelForSequenceClassification"
        assert labels == dict(enumerate(names))
        texts = [("A text.", "Another.")] if name == "pairs" else ["A text."]
        assert [said.rstrip("\n")] == results[name].average.predict(texts)
    assert {loaded[name][0] for name in ("decoder", "plain")} == {"PeftModelForCausalLM"}


def test_the_card_says_what_ran_and_nothing_of_this_machine(results, place):
    text, whole = card(place / "eight"), " ".join(card(place / name) for name in RUNS)
    assert str(place) not in whole
    for fact in ("eight-base", "8 classes", "dec-lora", "2 clients", "ring", "q4", "seed", declora.__version__, "iid"):
        assert fact in text, fact
    accuracy = results["eight"].history["average_accuracy"].iloc[-1]
    assert f"{100 * accuracy:.1f} % on 16 samples" in text
    assert text.startswith('---\nlibrary_name: "peft"\npipeline_tag: "text-classification"\n')
    assert 'pipeline_tag: "text-generation"' in card(place / "decoder")


def test_peft_loads_a_folder_without_arguments_where_the_base_has_as_many_classes(results, place):
    auto = peft.AutoPeftModelForSequenceClassification
    assert auto.from_pretrained(place / "two").config.num_labels == 2
    with pytest.raises(
        RuntimeError, match="size mismatch"
    ):  # PEFT asks the base alone, whatever lies beside the adapter
        auto.from_pretrained(place / "eight")
    base = place / "eight-with-a-head"
    tiny_bert(8).save_pretrained(base)
    settings = json.loads((place / "eight" / "adapter_config.json").read_text())
    folder = shutil.copytree(place / "eight", place / "eight-of-eight")
    (folder / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(base)}))
    assert auto.from_pretrained(folder).config.num_labels == 8


def test_predictions_are_those_that_were_scored_and_those_of_peft(results):
    for name in ("two", "eight", "pairs"):
        result, (_, settings) = results[name], RUNS[name]
        rows = settings["data"]["validation"]
        adapter, columns = result.average, result._outcome.lineage.text.text_columns
        texts = [tuple(row[column] for column in columns) if len(columns) > 1 else row[columns[0]] for row in rows]
        found, names = adapter.predict(texts), result._outcome.lineage.text.label_names
        right = [names.index(label) == row["label"] for label, row in zip(found, rows, strict=True)]
        assert np.mean(right) == pytest.approx(result.history["average_accuracy"].iloc[-1])
        model, tokenizer = adapter.to_peft(), result._outcome.lineage.tokenizer
        assert isinstance(model, peft.PeftModelForSequenceClassification)
        assert list(model.config.id2label.values()) == list(names)
        assert not any(parameter.requires_grad for parameter in model.parameters())
        with torch.no_grad():
            inputs = tokenizer(
                *([[part] for part in texts[0]] if len(columns) > 1 else [[texts[0]]]), return_tensors="pt"
            )
            assert names[model(**inputs).logits.argmax().item()] == found[0]


def test_a_decoder_answers_what_peft_generates(results):
    for name, prompt, ends in (("decoder", "w5 w6 w0 ", 1), ("plain", "w5 w6", 1)):
        adapter, tokenizer = results[name].average, results[name]._outcome.lineage.tokenizer
        asked = "w5 w6"
        (answer,) = adapter.predict([asked], max_new_tokens=4)
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"][:, :-ends]  # this tokenizer ends every text
        made = adapter.to_peft().generate(input_ids=ids, max_new_tokens=4, do_sample=False, eos_token_id=3)
        assert answer == tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    assert adapter.predict([]) == []


def test_a_question_is_asked_as_conversations_were_learned(results):
    adapter, tokenizer = results["decoder"].average, tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}w{{ m.role | length }} {{ m.content }} [SEP] {% endfor %}"
        "{% if add_generation_prompt %}w9 {% endif %}"
    )
    lineage = adapter.about.lineage
    text = replace(lineage.text, text_columns=("messages",), completion_column=None, chat=True)
    about = replace(adapter.about, lineage=replace(lineage, text=text, tokenizer=tokenizer))
    about = replace(about, settings=about.settings.override(prompt_template=None))
    adapter = replace(adapter, about=about)
    messages = [{"role": "user", "content": "w5 w6"}]
    found = adapter.predict(["w5 w6", messages], max_new_tokens=4)
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = adapter.to_peft().generate(input_ids=ids["input_ids"], max_new_tokens=4, do_sample=False, eos_token_id=3)
    said = tokenizer.decode(made[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    assert found == [said, said]
    with pytest.raises(DataError, match=r"texts\[0\]=3 is not messages"):
        adapter.predict([3])


def test_pairs_and_tables_are_one_and_what_fits_no_column_is_refused(results):
    adapter = results["pairs"].average
    assert adapter.predict([("w1", "w2")]) == adapter.predict([{"one": "w1", "other": "w2"}])
    with pytest.raises(DataError, match=r"texts\[1\]='w1' is not a text of each of one, other"):
        adapter.predict([("w1", "w2"), "w1"])
    with pytest.raises(DataError, match=r"texts='w1' is no list"):
        results["two"].average.predict("w1")
    for nothing in (None, 0, b"w1"):
        with pytest.raises(DataError, match=r"^texts=.* is no list of texts"):
            results["two"].average.predict(nothing)
    with pytest.raises(DataError, match=r"texts\[0\]=3 is not a text"):
        results["two"].average.predict([3])


@pytest.mark.parametrize("number", [0, -1, 2.5, True, "3"])
def test_numbers_that_count_nothing_are_refused(number, results):
    for task in ("two", "decoder"):
        with pytest.raises(ConfigError, match=r"^max_new_tokens=.* must be a whole number of at least 1"):
            results[task].average.predict(["w1"], max_new_tokens=number)
    with pytest.raises(ModelError, match=r"^rank=.* must be a whole number from 1 to 2, which the adapter has"):
        results["two"].average.at_rank(number)


def test_an_adapter_has_no_more_components_than_it_has_and_is_saved_at_home(results, tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"^rank=3 must be"):
        results["two"].average.at_rank(3)
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = results["two"].average.at_rank(np.int64(1)).save_pretrained("~/one")
    assert folder == tmp_path / "one"
    assert json.loads((folder / "adapter_config.json").read_text())["r"] == 1


def test_a_prompt_that_has_no_room_is_not_helped_by_a_shorter_answer(results):
    with pytest.raises(ModelError, match=r"positions of LlamaForCausalLM\. Shorten the prompts\.$"):
        results["decoder"].average.predict(["w1 " * 80])


def test_code_that_loads_a_folder_is_python_whatever_it_is_called(results):
    for folder in ("a'b\"c\\d", Path("x") / "é ☃"):
        code = results["two"].average.loading_code(folder)
        (line,) = [line for line in code.splitlines() if line.startswith("folder = ")]
        names = {}
        exec(line, names)
        assert names["folder"] == str(folder)


def test_a_model_that_was_passed_stays_as_it_is_and_its_adapter_loads_over_it(tiny_run, tmp_path):
    model = tiny_bert()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modules, fields = dict(model.named_modules()), dict(vars(model.config))
    result = tiny_run(model=model, rounds=1)
    adapter = result.average
    wrapped = adapter.to_peft()
    found = adapter.predict(TEXTS)
    assert dict(model.named_modules()) == modules
    assert dict(vars(model.config)) == fields
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not hasattr(model, "peft_config")
    folder = adapter.save_pretrained(tmp_path / "adapter")
    code = snippet(folder)
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    assert "was passed as an object" in card(folder)
    adapter.to_peft().unload().save_pretrained(tmp_path / "base")  # as the card says
    names = {}
    exec(code.replace("PATH OF THE BASE", str(tmp_path / "base")).replace('"."', repr(str(folder))), names)
    inputs = result._outcome.lineage.tokenizer(TEXTS[0], return_tensors="pt")
    torch.testing.assert_close(names["model"](**inputs).logits, wrapped(**inputs).logits)
    assert [names["labels"][names["model"](**inputs).logits.argmax().item()]] == found[:1]
    mine = adapter.to_peft(tiny_bert())
    torch.testing.assert_close(mine(**inputs).logits, wrapped(**inputs).logits)
    with pytest.raises(ModelError, match=r"has a head for 3 classes, the adapter has 2\. Load it with num_labels=2"):
        adapter.to_peft(tiny_bert(3))
    wide = tiny_bert(2, width=64)
    with pytest.raises(
        ModelError, match=r"^the adapter does not fit base=BertForSequenceClassification: .*size mismatch"
    ):
        adapter.to_peft(wide)
    assert not [name for name, _ in wide.named_modules() if "lora" in name]
    with pytest.raises(ModelError, match=r"^base is a str; it must be a loaded model of transformers\.$"):
        adapter.to_peft("minilm")
    with pytest.raises(ModelError, match=r"^base is a PeftModel.* Of a PEFT model give base\.unload\(\)\.$"):
        adapter.to_peft(mine)


def test_an_adapter_of_no_run_is_saved_and_says_what_it_cannot(results, tmp_path):
    own = results["two"].average
    bare = declora.Adapter(own.row, own.layout, own.config)
    assert sorted(path.name for path in bare.save_pretrained(tmp_path).iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    with pytest.raises(ModelError, match="of no run, and cannot predict by itself"):
        bare.predict(TEXTS)
    assert isinstance(bare.to_peft(tiny_bert()), peft.PeftModel)


def test_the_folder_of_a_run_has_tokenizer_and_card_of_each_adapter_and_the_first_one(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr("declora.simulation.write_run", write_adapters)
    result = tiny_run(out=str(tmp_path / "run"), rounds=1, method="dfed-alt", client_eval_samples=4)
    adapters = tmp_path / "run" / "adapters"
    names = ["average", *(f"client-{client:04d}" for client in range(4)), "initial"]
    assert sorted(path.name for path in adapters.iterdir()) == names
    for name in names:
        assert transformers.AutoTokenizer.from_pretrained(adapters / name)("w1")["input_ids"] == [2, 5, 3]
        assert (adapters / name / "tokenizer.json").stat().st_nlink == 6  # the bytes are on the disk once
        assert (adapters / name / "README.md").stat().st_nlink == 1
    assert "these are its result, not their mean" in card(adapters / "average")
    own = result.clients.iloc[-2]
    assert "adapter of client 2 of 4" in card(adapters / "client-0002")
    assert f"{100 * own['accuracy']:.1f} % on 4 samples" in card(adapters / "client-0002")
    first = peft.utils.load_peft_weights(str(adapters / "initial"))
    assert all(torch.equal(first[name], value) for name, value in result.initial.state_dict().items())
    assert all(not value.any() for name, value in first.items() if "lora_B" in name)
    assert any(value.any() for name, value in first.items() if "lora_A" in name)


def test_without_links_the_tokenizer_is_beside_the_average(tiny_run, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("declora.simulation.write_run", write_adapters)
    monkeypatch.setattr(os, "link", refuse)
    tiny_run(out=str(tmp_path), rounds=1, clients=2, overwrite=True)
    folder = tmp_path / "adapters" / "client-0001"
    assert not (folder / "tokenizer.json").exists()
    (line,) = [line for line in snippet(folder).splitlines() if line.startswith("tokenizer = ")]
    monkeypatch.chdir(folder)
    names = {"AutoTokenizer": transformers.AutoTokenizer, "folder": "."}
    exec(line, names)
    assert names["tokenizer"]("w1")["input_ids"] == [2, 5, 3]


def test_the_tokenizers_files_do_not_depend_on_the_text_before(results, tmp_path):
    adapter = results["two"].average
    adapter.save_pretrained(tmp_path / "a")
    core = results["two"]._outcome.lineage.tokenizer.backend_tokenizer
    core.enable_truncation(3)
    adapter.save_pretrained(tmp_path / "b")
    assert core.truncation["max_length"] == 3
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize("base", ["folder", "hub"])
def test_pushing_uploads_the_folder_without_paths_of_this_machine(results, place, monkeypatch, base):
    import huggingface_hub

    calls = {}

    class Hub:
        def __init__(self, token=None):
            calls["token"] = token

        def create_repo(self, repo_id, *, private, exist_ok):
            assert exist_ok
            calls["private"] = private
            return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

        def upload_folder(self, *, folder_path, **commit):
            calls["files"] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
            return commit

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    adapter = results["two"].average
    if base == "hub":
        config = peft.LoraConfig.from_pretrained(place / "two")
        config.base_model_name_or_path = "someone/base"
        adapter = declora.Adapter(adapter.row, adapter.layout, config, adapter.about)
    commit = adapter.push_to_hub("me/mine", private=True, token="secret", revision="dev")
    expected = {
        "repo_id": "me/mine",
        "commit_message": "Upload the averaged adapter",
        "revision": "dev",
        "create_pr": False,
    }
    assert commit == expected
    assert (calls["token"], calls["private"]) == ("secret", True)
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= calls["files"].keys()
    assert not [name for name, content in calls["files"].items() if str(place).encode() in content]
    named = json.loads(calls["files"]["adapter_config.json"])["base_model_name_or_path"]
    assert named == (None if base == "folder" else "someone/base")


def test_bases_have_portable_names():
    assert base_name("sentence-transformers/all-MiniLM-L6-v2") == "sentence-transformers/all-MiniLM-L6-v2"
    assert base_name(f"{Path.home()}/.cache/hub/models--org--some--name/snapshots/0a1b") == "org/some--name"
    assert base_name(str(Path(__file__).parent)) == "tests"
    assert base_name("") == "a model that was passed as an object"


def test_a_base_of_random_weights_is_no_place_and_answers_all_the_same(tiny_run, tmp_path):
    tiny_bert().config.save_pretrained(tmp_path / "shape")
    adapter = tiny_run(model=str(tmp_path / "shape" / "config.json"), rounds=1).average
    text = card(adapter.save_pretrained(tmp_path / "adapter"))
    assert "The base was shape with random weights" in text
    assert "PATH OF THE BASE" in text
    inputs = tiny_tokenizer()(TEXTS[0], return_tensors="pt")
    assert [str(adapter.to_peft()(**inputs).logits.argmax().item())] == adapter.predict(TEXTS[:1])


@pytest.mark.parametrize(
    ("settings", "rank"),
    [
        ({"method": "fedex-lora:residual=2", "topology": "complete"}, 4),
        ({"method": "decaf", "ranks": [1, 2, 4, 2]}, 1),
    ],
    ids=["residual", "ranks"],
)
def test_adapters_of_other_ranks_say_so_and_answer_as_peft_does(tiny_run, tmp_path, settings, rank):
    adapter = tiny_run(rounds=1, **settings).client(0)
    assert f"rank {rank}, alpha {rank}, of query, value" in card(adapter.save_pretrained(tmp_path))
    inputs = tiny_tokenizer()(TEXTS[1], return_tensors="pt")
    assert [str(adapter.to_peft()(**inputs).logits.argmax().item())] == adapter.predict(TEXTS[1:2])


def test_a_base_in_4_bits_is_loaded_in_4_bits(tmp_path, tiny_run):
    pytest.importorskip("bitsandbytes")
    tiny_bert(width=64).save_pretrained(tmp_path / "base")
    adapter = tiny_run(model=str(tmp_path / "base"), rounds=1, load_in_4bit=True).average
    assert "| base | base, held in nf4 |" in card(adapter.save_pretrained(tmp_path / "adapter"))
    model = adapter.to_peft()
    assert model.get_base_model().is_quantized
    inputs = tiny_tokenizer()(TEXTS[1], return_tensors="pt")
    assert [str(model(**inputs).logits.argmax().item())] == adapter.predict(TEXTS[1:2])


def test_a_relative_path_of_a_base_is_found_from_anywhere(tiny_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_bert().save_pretrained("base")
    folder = tiny_run(model="base", rounds=1).average.save_pretrained(tmp_path / "adapter")
    monkeypatch.chdir("/")
    assert peft.AutoPeftModelForSequenceClassification.from_pretrained(folder).config.num_labels == 2


def test_an_adapter_pickles_without_the_rows_of_others_and_answers_then(results):
    adapter = results["two"].client(1)
    adapter.predict(TEXTS)  # loads a base, which is not to travel
    data = pickle.dumps(adapter)
    again = pickle.loads(data)
    assert torch.equal(again.row, adapter.row)
    assert len(data) < 8 * adapter.row.numel() + 60_000  # its own numbers, a tokenizer of 64 words, names
    assert again.predict(TEXTS) == adapter.predict(TEXTS)
