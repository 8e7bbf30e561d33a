"""Task presets: the right columns, classes, split and texts, from the hub and from files of one's own."""

import datasets
import numpy as np
import pytest

from data_rows import data, rows_to
from declora.data import load
from declora.data.presets import PRESETS, split_name
from declora.errors import ConfigError, DataError

GLUE = ("sst2", "mrpc", "cola", "qnli", "qqp", "mnli", "rte")
# A row as the hub has it, without its label.
HUB_ROWS = {
    "sst2": {"sentence": "a fine film"},
    "mrpc": {"sentence1": "one", "sentence2": "two"},
    "cola": {"sentence": "He slept."},
    "qnli": {"question": "Who?", "sentence": "She did."},
    "qqp": {"question1": "Why?", "question2": "What for?"},
    "mnli": {"premise": "It rains.", "hypothesis": "It is wet."},
    "rte": {"sentence1": "one", "sentence2": "two"},
    "boolq": {"question": "is it", "passage": "It is."},
    "wic": {"word": "bank", "sentence1": "The bank lent.", "sentence2": "A river bank."},
    "copa": {"premise": "It fell.", "question": "cause", "choice1": "He pushed.", "choice2": "She saw."},
    "ag_news": {"text": "Shares rose."},
    "gsm8k": {"question": "2 + 2?", "answer": "It is 4. #### 4"},
}
SPLITS = {
    "mnli": ("validation_matched", "validation_mismatched", "test_matched"),
    "ag_news": ("test",),
    "gsm8k": ("test",),
}


def hub_data(name):
    """A small data set with the columns, labels and splits of the hub's; only the right split has text that is long."""
    preset, count = PRESETS[name], 2 * max(1, len(PRESETS[name].classes))
    rows = {column: [text] * count for column, text in HUB_ROWS[name].items()}
    if name == "boolq":
        rows["answer"] = [bool(i % 2) for i in range(count)]
    elif preset.classes:
        rows["label"] = [i % len(preset.classes) for i in range(count)]
    train = datasets.Dataset.from_dict(rows)
    if preset.classes and name != "boolq":
        train = train.cast_column("label", datasets.ClassLabel(names=list(preset.classes)))
    splits = SPLITS.get(name, ("validation", "test"))
    # The split that counts has one row a class, the others more.
    return datasets.DatasetDict(
        train=train, **{s: train.select(range(count // (2 if i == 0 else 1))) for i, s in enumerate(splits)}
    )


@pytest.mark.parametrize("name", PRESETS)
def test_a_task_by_name_is_the_hubs_with_its_columns_classes_and_split(name, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *names: asked.append(names) or hub_data(name))
    loaded, preset = load(name), PRESETS[name]
    repository, _, config = preset.hub.partition(":")
    assert asked == [(repository, config or None)]
    assert asked[0][0].startswith(
        {"boolq": "google/", "ag_news": "fancyzhx/", "gsm8k": "openai/"}.get(
            name, "nyu-mll/glue" if name in GLUE else "aps/super_glue"
        )
    )
    assert loaded.preset is preset
    assert loaded.task == preset.task == ("causal-lm" if name == "gsm8k" else "classification")
    assert loaded.label_names == preset.classes
    assert loaded.evaluation.num_rows == max(1, len(preset.classes))
    assert len(loaded.text_columns) == (1 if name in ("sst2", "cola", "ag_news", "gsm8k") else 2)
    if preset.classes:
        assert loaded.labels().tolist() == [i % len(preset.classes) for i in range(2 * len(preset.classes))]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("wic", ("bank: The bank lent.", "A river bank.")),
        ("copa", ("It fell. What was the cause?", "1: He pushed. 2: She saw.")),
        ("boolq", ("is it", "It is.")),
    ],
)
def test_texts_are_built_as_the_task_needs(name, texts, monkeypatch):
    monkeypatch.setattr(datasets, "load_dataset", lambda *names: hub_data(name))
    loaded = load(name)
    assert tuple(loaded.evaluation[0][column] for column in loaded.text_columns) == texts


REAL = {
    # name: training and evaluation rows, evaluation rows of each class (shared/data/README.md)
    "sst2": (67_349, [428, 444]),
    "mrpc": (3_668, [129, 279]),
    "cola": (8_551, [322, 721]),
    "qqp": (20_000, [4_871, 2_729]),
    "mnli": (3_000, [3_479, 3_123, 3_213]),
    "ag_news": (10_001, [1_900] * 4),
}


@pytest.mark.parametrize("name", REAL)
def test_the_same_task_is_read_from_files_with_integer_labels(name, real_data):
    loaded = load(f"{name}={real_data / name}")
    rows, classes = REAL[name]
    assert loaded.train.num_rows == rows
    assert loaded.label_names == PRESETS[name].classes
    assert np.bincount(loaded.evaluation["label"][:]).tolist() == classes


def test_gsm8k_from_files_is_question_then_answer(real_data):
    loaded = load(f"gsm8k={real_data / 'gsm8k'}")
    assert (loaded.task, loaded.evaluation.num_rows) == ("causal-lm", 1_319)
    assert (loaded.text_columns, loaded.completion_column) == (("question",), "answer")


def test_a_file_or_folder_of_the_tasks_name_comes_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_name("sst2") == (PRESETS["sst2"], "nyu-mll/glue:sst2")
    (tmp_path / "sst2").mkdir()
    assert split_name("sst2") == (PRESETS["sst2"], "sst2")
    assert split_name("sst2=hub") == (PRESETS["sst2"], "nyu-mll/glue:sst2")
    assert split_name("sst2=stanfordnlp/sst2") == (PRESETS["sst2"], "stanfordnlp/sst2")
    assert split_name("stanfordnlp/sst2") == (None, "stanfordnlp/sst2")


def test_a_path_with_an_equals_sign_is_a_path(tmp_path, monkeypatch):
    folder = tmp_path / "lr=3"
    folder.mkdir()
    rows = [("good", 1), ("bad", 0)] * 4
    path = rows_to(folder / "a.csv", rows)
    assert load(str(path)).preset is None
    monkeypatch.chdir(tmp_path)
    rows_to(tmp_path / "lr=3.csv", rows)
    assert load("lr=3.csv").preset is None


def test_the_users_columns_come_before_the_presets(tmp_path):
    path = rows_to(tmp_path / "a.csv", [("x", "good", 1), ("x", "bad", 0)] * 5, ("sentence", "review", "stars"))
    loaded = load(f"cola={path}", text_columns="review", label_column="stars")
    assert (loaded.text_columns, loaded.label_column, loaded.label_names) == (
        ("review",),
        "stars",
        PRESETS["cola"].classes,
    )


def test_labels_may_be_the_class_names(tmp_path):
    rows = [("a", "b", label) for label in ("contradiction", "entailment", "neutral")] * 2
    path = rows_to(tmp_path / "a.tsv", rows, ("premise", "hypothesis", "label"))
    loaded = load(f"mnli={path}", eval_data=path)
    assert loaded.evaluation["label"][:3] == [2, 0, 1]


def test_every_client_may_bring_its_own_file_of_one_task(tmp_path):
    paths = [rows_to(tmp_path / f"{i}.csv", [("good", 1), ("bad", 0)] * 5, ("sentence", "label")) for i in range(2)]
    loaded = load([f"sst2={path}" for path in paths])
    assert (loaded.preset, len(loaded.shards)) == (PRESETS["sst2"], 2)
    with pytest.raises(DataError, match="data mixes tasks: sst2, cola"):
        load([f"sst2={paths[0]}", f"cola={paths[1]}"])
    with pytest.raises(DataError, match="data mixes tasks: sst2, no preset"):
        load([f"sst2={paths[0]}", str(paths[1])])


def test_what_a_preset_cannot_read_is_one_clear_error(tmp_path):
    path = rows_to(tmp_path / "a.csv", [("good", 1), ("bad", 0)] * 5, ("sentence", "label"))
    with pytest.raises(ConfigError, match=r"data='stt2' is not known\. Did you mean 'sst2'"):
        load(f"stt2={path}")
    with pytest.raises(ConfigError, match=r"data='sst2=' names no source.*sst2=PATH"):
        load("sst2=")
    with pytest.raises(ConfigError, match=r"task='causal-lm' does not fit data='sst2', which is classification"):
        load(f"sst2={path}", task="causal-lm")
    with pytest.raises(
        DataError, match=r"a\.csv is read as 'mrpc', which has sentence1 and sentence2, but .*text_columns"
    ):
        load(f"mrpc={path}")
    with pytest.raises(DataError, match=r"a\.csv has no column 'word'"):
        load(f"wic={path}")
    with pytest.raises(DataError, match=r"label 3 of row 1 is beyond the 2 classes \['negative', 'positive'\]"):
        load(data_csv(tmp_path, [("good", 1), ("bad", 3)]))
    three = data([("a", 0), ("b", 1), ("c", 2)], ("sentence", "label")).cast_column(
        "label", datasets.ClassLabel(names=["n", "p", "x"])
    )
    three.save_to_disk(tmp_path / "three")
    with pytest.raises(DataError, match=r"declares the classes \['n', 'p', 'x'\], but 'sst2' has"):
        load(f"sst2={tmp_path / 'three'}")


def data_csv(folder, rows):
    return f"sst2={rows_to(folder / 'b.csv', rows, ('sentence', 'label'))}"


def test_without_the_hub_the_error_says_how_to_use_files():
    with pytest.raises(DataError, match=r"data='nyu-mll/glue:cola'.*data='cola=PATH' with your own files"):
        load("cola")
