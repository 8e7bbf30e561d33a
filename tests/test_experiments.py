"""Experiments: their rows are runs that can be run, none runs twice, and the tables say what the runs measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import declora
from declora import cli
from declora.config import SimulationConfig
from declora.data import load
from declora.errors import ConfigError, DataError, ModelError, RunFolderError
from declora.experiments import EXPERIMENTS, PRINTED, SCALES, Cell, Experiment, grid
from declora.experiments.choices import open_choices
from declora.experiments.experiment import Grid
from declora.experiments.figures import mean_history
from declora.experiments.overview import overview
from declora.experiments.plan import make_plan
from declora.experiments.progress import Pace
from declora.experiments.store import Store
from declora.prepare import divide, plan_federation
from declora.report import read_metrics
from tiny import tiny_bert, tiny_texts

TINY = replace(SCALES["small"], work=((1, 4), (2, 2)), long=(1, 3), skewed=(2, 2))
CLIENTS = 4
TASK_CLASSES = {"sst2": 2, "mrpc": 2, "qnli": 2, "qqp": 2, "mnli": 3, "ag_news": 4}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with a tiny model, its tokenizer, and SST-2 and MNLI as small files."""
    root = tmp_path_factory.mktemp("site")
    for name, labels, columns in (("sst2", 2, ("sentence",)), ("mnli", 3, ("sentence1", "sentence2"))):
        (root / "data" / name).mkdir(parents=True)
        for split, count, seed in (("train", 96, 0), ("validation", 40, 1)):
            texts = tiny_texts(count, labels=labels, seed=seed)
            rows = dict.fromkeys(columns, texts["text"][:]) | {"label": texts["label"][:]}
            pd.DataFrame(rows).to_csv(root / "data" / name / f"{split}.tsv", sep="\t", index=False)
    tiny_bert(width=16, layers=1).bert.save_pretrained(root / "model")
    return root


@pytest.fixture
def reproduce(site, tokenizer, tmp_path):
    """Returns `reproduce` with tiny defaults."""
    tokenizer.save_pretrained(site / "model")

    def run(experiment, **arguments):
        defaults = {"scale": TINY, "model": str(site / "model"), "data": site / "data", "tasks": ["sst2"], "seeds": 2}
        return declora.reproduce(experiment, **{**defaults, "out": tmp_path / "out", "progress": False, **arguments})

    return run


@pytest.fixture
def run(site, reproduce, tmp_path):
    """Returns the grid alone, without tables and figures; what it returns are the runs by key."""

    def run(experiment, **arguments):
        defaults = {"model": str(site / "model"), "data": site / "data", "tasks": ["sst2"], "seeds": 2, "clients": 3}
        plan = make_plan(EXPERIMENTS[experiment], TINY, **{**defaults, **arguments})
        return grid.run_grid(plan, Store(tmp_path / "cells"), progress=False)

    return run


@pytest.fixture
def counted(monkeypatch):
    """Catches what the grid runs: (row, seed) of every run that is executed to its end or dies on the way."""
    ran = []
    execute = grid._execute
    monkeypatch.setattr(
        grid, "_execute", lambda job, *rest: ran.append((job.cell.label, job.config.seed)) or execute(job, *rest)
    )
    return ran


@pytest.fixture(scope="module")
def data_by_classes():
    """Data sets with two, three and four labels, enough rows for every partition."""
    loaded = {}
    for classes in (2, 3, 4):
        names = {"train": tiny_texts(240, labels=classes), "validation": tiny_texts(24, labels=classes, seed=1)}
        loaded[classes] = load(names)
    return loaded


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_every_row_is_a_federation_that_can_be_run(scale, name, data_by_classes):
    experiment = EXPERIMENTS[name]
    for task in experiment.tasks_at(scale):
        classes = TASK_CLASSES[task]
        for cell in experiment.cells(Grid(scale, experiment.clients, task)):
            settings = {"codec": "none", **scale.settings_of(name, task), **cell.settings}
            config = SimulationConfig().override(**settings)
            federation, _ = divide(config, data_by_classes[classes], *plan_federation(config))
            centralized = config.method == "centralized"
            assert federation.clients == (1 if centralized else cell.settings["clients"])
            matrix = federation.topology.weights(0).toarray()
            law = federation.topology.law
            law = np.full(len(matrix), 1 / len(matrix)) if law is None else law
            np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
            np.testing.assert_allclose(law @ matrix, law, atol=1e-12)


def test_the_papers_sizes_are_the_papers():
    """What is in print of arXiv 2501.15361, by the secondary source."""
    paper = SCALES["paper"]
    assert (paper.model, paper.work, paper.long, paper.skewed) == (
        "roberta-base",
        ((1, 20), (5, 10)),
        (1, 100),
        (5, 10),
    )
    assert paper.settings["batch_size"] == 32
    assert paper.settings["learning_rate"] == 1e-3
    plan = make_plan(EXPERIMENTS["table1"], paper, tasks=["sst2"], seeds=1)
    rings = {job.cell.label: job.config for job in plan.jobs if job.config.method == "dec-lora"}
    assert {config.lora["r"] for config in rings.values()} == {16}
    assert {config.clients for config in rings.values()} == {10}
    assert rings["ring, K=1, T=20"].weights is None  # metropolis
    assert rings["Erdős–Rényi, K=1, T=20"].weights == "laplacian"
    skew = make_plan(EXPERIMENTS["label-skew"], paper, tasks=["sst2", "mnli"], seeds=1).jobs
    assert {job.config.partition for job in skew if "skew" in job.cell.label} == {
        "labels:[[.15,.85],[.85,.15],[.5,.5]]",
        "labels:[[.9,.05,.05],[.05,.9,.05],[.05,.05,.9]]",
    }


def test_table_2_has_one_alpha_for_all_ranks_and_the_page_says_so():
    plan = make_plan(EXPERIMENTS["table2"], TINY, seeds=1)
    assert {(job.config.lora["r"], job.config.lora["lora_alpha"]) for job in plan.jobs} == {(2, 16), (4, 16), (8, 16)}
    assert dict(open_choices(plan))["alpha"].startswith("16 whatever the rank")
    others = make_plan(EXPERIMENTS["table1"], TINY, tasks=["sst2"], seeds=1)
    assert all("lora_alpha" not in job.config.lora for job in others.jobs)
    assert dict(open_choices(others))["alpha"].startswith("the rank")


def test_label_skew_has_its_own_work():
    plan = make_plan(EXPERIMENTS["label-skew"], replace(TINY, skewed=(3, 7)), tasks=["sst2"], seeds=1)
    assert {(job.config.local_steps, job.config.rounds) for job in plan.jobs} == {(3, 7)}


def test_a_task_may_have_its_own_work_and_rate_and_the_page_says_so():
    scale = replace(TINY, work_by_task={"mrpc": ((3, 7),)}, by_task={"mrpc": {"learning_rate": 3e-3}})
    plan = make_plan(EXPERIMENTS["table1"], scale, tasks=["sst2", "mrpc"], seeds=1)
    rows = {task: [cell.label for cell in plan.cells(task)] for task in plan.tasks}
    assert rows["mrpc"] == ["ring, K=3, T=7", "Erdős–Rényi, K=3, T=7", "centralized, K=3, T=7"]
    assert {"ring, K=1, T=4", "local, K=2, T=2"} <= set(rows["sst2"])
    assert {job.config.rounds for job in plan.jobs if job.task == "mrpc"} == {7}
    choices = dict(open_choices(plan))
    rise = "linear decay to 0, after a rise over 6% of the steps"
    assert choices["schedule"] == f"sst2: {rise}; peak 0.01; mrpc: {rise}; peak 0.003"
    assert choices["batch of a client's step"] == "8"
    assert {cell.settings["rounds"] for cell in EXPERIMENTS["messages"].cells(Grid(scale, (10,), "mrpc"))} == {7}


def test_printed_values_stand_beside_rows_that_exist_and_nowhere_else():
    assert {key: printed.value for key, printed in PRINTED.items()} == {
        ("table1", "sst2", "ring, K=1, T=20"): 93.81,
        ("table1", "sst2", "ring, K=5, T=10"): 94.61,
        ("table2", "mrpc", "ring of 10, r=2"): 89.31,
        ("table2", "mrpc", "ring of 10, r=4"): 89.20,
        ("table2", "mrpc", "ring of 10, r=8"): 89.16,
        ("table4", "qnli", "full precision"): 90.79,
        ("table4", "qnli", "4-bit base"): 90.84,
        ("table4", "sst2", "full precision"): 93.92,
        ("table4", "sst2", "4-bit base"): 93.92,
    }
    assert {printed.tag for printed in PRINTED.values()} == {"N"}
    for scale in SCALES.values():
        for name, task, label in PRINTED:
            experiment = EXPERIMENTS[name]
            cells = experiment.cells(Grid(scale, experiment.clients, task))
            assert label in {cell.label for cell in cells}


def test_a_reference_is_a_row_of_the_same_table_and_labels_are_unique():
    for scale in SCALES.values():
        for experiment in EXPERIMENTS.values():
            cells = experiment.cells(Grid(scale, experiment.clients, "sst2"))
            labels = [cell.label for cell in cells]
            assert len(set(labels)) == len(labels)
            assert {cell.reference for cell in cells} <= {"", *labels}
            by_label = {cell.label: cell.settings for cell in cells}
            for cell in cells:  # as many steps of every client as what it is held against, mostly as many clients
                if cell.reference:
                    own, other = cell.settings, by_label[cell.reference]
                    assert own["local_steps"] * own["rounds"] == other["local_steps"] * other["rounds"]
                    assert own["clients"] == other["clients"] or cell.label.startswith("ring of 20")


def test_the_table_is_recomputed_from_the_runs_histories(reproduce, tmp_path, pictures):
    result = reproduce("table1", clients=CLIENTS)
    table = result.table.set_index("row")
    assert len(table) == 8
    scores = {}
    for job in result.plan.jobs:
        history = read_metrics(tmp_path / "out" / "cells" / job.key)
        scores[job.cell.label, job.config.seed] = history
    for label, row in table.iterrows():
        runs = [scores[label, seed] for seed in (0, 1)]
        last = np.array([run["average_accuracy"].iloc[-1] for run in runs])
        best = np.array([run["average_accuracy"].max() for run in runs])
        clients = np.array([run["clients_accuracy_mean"].iloc[-1] for run in runs])
        assert row["average_last"] == pytest.approx(last.mean())
        assert row["average_last_sd"] == pytest.approx(abs(last[0] - last[1]) / 2**0.5)  # of two runs
        assert row["average_best"] == pytest.approx(best.mean())
        assert row["clients_last"] == pytest.approx(clients.mean())
        assert row["bytes_total"] == np.mean([run["bytes_sent"].sum() for run in runs])
        assert row["samples"] == 4 * CLIENTS * 8  # K T is 4 in every row, batches of 8
        if row["reference"]:
            gaps = last - [scores[row["reference"], seed]["average_accuracy"].iloc[-1] for seed in (0, 1)]
            assert row["difference"] == pytest.approx(gaps.mean())
            assert row["difference_sd"] == pytest.approx(gaps.std(ddof=1))
    assert table.loc["ring, K=1, T=4", "local_work"] == "1 step"
    assert table["paper"].isna().all()  # T=4 is not a row of the paper
    written = pd.read_csv(tmp_path / "out" / "table1" / "table.csv").set_index("row")
    np.testing.assert_allclose(written["average_last"], table["average_last"])
    page = (tmp_path / "out" / "table1" / "table.md").read_text()
    for open_choice in ("optimizer", "alpha", "target modules", "| K ", "split", "1 step", "2 steps"):
        assert open_choice in page
    assert f"{100 * table.loc['local, K=1, T=4', 'average_last']:.2f} ±" in page
    assert (tmp_path / "out" / "table1" / "sst2.png").stat().st_size > 10_000
    assert "<svg" in (tmp_path / "out" / "table1" / "report.html").read_text()


def test_an_interrupted_grid_goes_on_where_it_stopped(run, counted, monkeypatch):
    execute = declora.run.Run.execute
    monkeypatch.setattr(
        declora.run.Run, "execute", lambda running, observe: _die_in_round_two(execute, running, observe, counted)
    )
    with pytest.raises(KeyboardInterrupt):
        run("local-steps")
    monkeypatch.setattr(declora.run.Run, "execute", execute)
    everything = [(label, seed) for seed in (0, 1) for label in ("K=1, T=4", "K=2, T=2", "centralized, K=2, T=2")]
    assert counted == everything[:2]
    assert len(run("local-steps")) == 6
    assert counted[2:] == everything[1:]  # the first had finished, the second had not
    run("local-steps")
    assert len(counted) == 7


def _die_in_round_two(execute, run, observe, counted):
    def watch(record):
        observe(record)
        if len(counted) == 2 and record["round"] == 2:
            raise KeyboardInterrupt

    return execute(run, watch)


def test_changed_settings_run_anew_and_equal_runs_of_two_tables_run_once(run, counted):
    run("local-steps", seeds=1)
    assert len(counted) == 3
    run("local-steps", seeds=1, settings={"learning_rate": 1e-3})
    assert len(counted) == 6
    run("messages", seeds=1)
    assert ("float32", 0) not in counted  # that is K=2, T=2 of local-steps
    assert len(counted) == 6 + len(EXPERIMENTS["messages"].cells(Grid(TINY, (3,), "sst2"))) - 1


def test_a_damaged_result_or_one_of_another_format_is_run_again(run, counted, tmp_path):
    folders = [tmp_path / "cells" / key for key in run("local-steps", seeds=1)]
    (folders[0] / "result.json").write_text("{")
    facts = json.loads((folders[1] / "result.json").read_text())
    (folders[1] / "result.json").write_text(json.dumps({**facts, "format": 0}))
    run("local-steps", seeds=1)
    assert len(counted) == 5


def test_runs_of_one_task_and_seed_share_one_loaded_base(run, monkeypatch):
    loads = []
    prepare = grid.prepare
    monkeypatch.setattr(grid, "prepare", lambda config: loads.append(config.seed) or prepare(config))
    run("local-steps")
    assert loads == [0, 1]


def test_k_counts_local_epochs_where_asked(reproduce):
    result = reproduce("local-steps", seeds=1, k="epochs", clients=3)
    # 32 texts a client in batches of 8
    assert result.table["local_work"].tolist() == ["1 epoch (4 steps)", "2 epochs (8 steps)", "2 epochs (8 steps)"]
    assert result.table["samples"].tolist() == [4 * 96] * 3
    assert "passes of each client" in result.choices.set_index("open").loc["K", "ours"]


def test_label_skew_has_the_papers_proportions_and_a_picture_of_them(reproduce):
    result = reproduce("label-skew", tasks=["mnli"], seeds=1)
    assert set(result.figures()) == {"mnli", "topology", "labels"}
    run = next(job for job in result.plan.jobs if job.task == "mnli" and job.cell.label == "label skew")
    counts = np.array([result.finished[run.key].facts["labels"][name] for name in ("entailment", "neutral")]).T
    shares = counts / np.array(result.finished[run.key].facts["labels"]["total"])[:, None]
    # Whole rows of about 30: within half a row.
    np.testing.assert_allclose(shares, [[0.9, 0.05], [0.05, 0.9], [0.05, 0.05]], atol=0.02)


def test_an_experiment_of_ones_own_is_run_like_the_others(reproduce):
    fixed = {"clients": 2, "local_steps": 1, "rounds": 1, "lora": {"r": 2}}

    def cells(grid):
        return [Cell(f"{rate:g}", {**fixed, "learning_rate": rate}) for rate in (1e-3, 1e-2)]

    rates = Experiment("rates", "Two rates", "Which?", cells)
    assert reproduce(rates, seeds=1).table["row"].tolist() == ["0.001", "0.01"]


def test_the_course_is_the_mean_over_seeds_with_a_band_of_one_standard_deviation():
    shared = {
        "round": [1, 2],
        "metric": ["accuracy", "accuracy"],
        "consensus_distance": [1.0, 3.0],
        "bytes_total": [5, 9],
    }
    runs = [pd.DataFrame({**shared, "average_accuracy": [float("nan"), score]}) for score in (0.5, 0.7)]
    mean = mean_history(runs)
    assert mean["average_accuracy"].iloc[1] == pytest.approx(0.6)
    spread = 0.1 * 2**0.5  # the sample standard deviation of .5 and .7
    assert mean["clients_accuracy_min"].iloc[1] == pytest.approx(0.6 - spread)
    assert mean["clients_accuracy_max"].iloc[1] == pytest.approx(0.6 + spread)
    assert np.isnan(mean["average_accuracy"].iloc[0])
    assert mean["bytes_total"].tolist() == [5, 9]


def test_the_time_left_is_by_the_rate_of_each_task():
    plan = make_plan(EXPERIMENTS["local-steps"], TINY, tasks=["sst2", "qnli"], seeds=1, clients=1)
    sst2, qnli = (next(job for job in plan.jobs if job.task == task) for task in ("sst2", "qnli"))
    pace = Pace(plan.jobs)
    assert np.isnan(pace.seconds_left)
    pace.add(sst2, 1.0)  # 8 samples of 96 in each task: 1/8 s a sample, qnli as sst2
    assert pace.seconds_left == pytest.approx((88 + 96) / 8)
    pace.add(qnli, 3.0)
    assert pace.seconds_left == pytest.approx(88 / 8 + 88 * 3 / 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"experiment": "tabel1"}, "Did you mean 'table1'"),
        ({"scale": "tiny"}, "scale='tiny' is not known"),
        ({"tasks": ["sst"]}, "Did you mean 'sst2'"),
        ({"k": "rounds"}, "k='rounds'"),
        ({"seeds": 0}, "seeds=0"),
        ({"seeds": [1, 1]}, r"seeds=\[1, 1\]"),
        ({"clients": [5, 6]}, "takes at most 1"),
        ({"experiment": "label-skew", "clients": 5}, "takes no other"),
        ({"experiment": "label-skew", "tasks": ["ag_news"]}, "4 classes"),
        ({"rounds": 3}, "the rows of table1 set it"),
        ({"out_of": 3}, "out_of"),
        ({"device": ["cpu"]}, "device is a list"),
        ({"model": 3}, "model=3"),
        ({"batch_size": 0}, "row 'ring, K=1, T=4': batch_size=0"),
        ({"data": {"mrpc": "x"}}, "no source of 'sst2'"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is_trained(reproduce, counted, arguments, message):
    with pytest.raises(ConfigError, match=message):
        reproduce(**{"experiment": "table1", **arguments})
    assert counted == []


def test_a_missing_folder_or_model_is_named(reproduce, counted, tmp_path):
    with pytest.raises(DataError, match="no folder 'sst2'"):
        reproduce("table1", data=tmp_path)
    with pytest.raises(ModelError, match="sst2: ring, K=1, T=4, seed 0: model of"):
        reproduce("table1", model=str(tmp_path / "none"))
    assert counted == []
    assert not (tmp_path / "out" / "cells").exists()


def test_a_folder_for_the_tables_that_cannot_be_had_is_refused_before_anything_is_trained(reproduce, counted, tmp_path):
    (tmp_path / "out" / "table1").mkdir(parents=True)
    (tmp_path / "out" / "table1" / "mine.txt").write_text("precious")
    with pytest.raises(RunFolderError, match="holds files that declora did not write"):
        reproduce("table1")
    assert counted == []


def test_a_run_that_cannot_be_kept_is_in_the_error_and_is_run_again(run, counted, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("declora.experiments.store._facts", lambda result: 1 / 0)
        with pytest.raises(RunFolderError, match=r"ZeroDivisionError.*its result is in the error's `result`") as caught:
            run("local-steps", seeds=1)
    assert len(caught.value.result.history) == 4
    run("local-steps", seeds=1)
    assert len(counted) == 1 + 3


def test_the_overview_counts_the_work_of_every_experiment(capsys):
    assert cli.main(["reproduce", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in EXPERIMENTS)
    table = overview("paper", seeds=3).set_index("experiment")
    # Five tasks, four rows of each (K, T), three seeds; K T is 20 and 50, 10 clients, batches of 32.
    assert table.loc["table1", "training samples"] == 5 * 4 * 3 * (20 + 50) * 10 * 32
    assert table.loc["table1", "runs"] == 5 * 8 * 3


def test_the_command_line_says_what_python_says(site, tokenizer, tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(declora, "reproduce", lambda *args, **kwargs: seen.append((args, kwargs)) or "done")
    arguments = [
        "--data",
        "sst2=a/b",
        "--data",
        "mrpc=hub",
        "--tasks",
        "sst2,mrpc",
        "--seeds",
        "3,4",
        "--clients",
        "10,20",
    ]
    assert cli.main(["reproduce", "table2", *arguments, "--set", "device=cpu", "--k", "epochs"]) == 0
    ((names, given),) = seen
    assert names == ("table2",)
    assert given["data"] == {"sst2": "a/b", "mrpc": "hub"}
    assert given["tasks"] == ["sst2", "mrpc"]
    assert (given["seeds"], given["clients"], given["k"], given["device"]) == ([3, 4], [10, 20], "epochs", "cpu")
    assert capsys.readouterr().out.startswith("done")
    assert cli.main(["reproduce", "table1", "--data", "a", "--data", "b"]) == 1
    assert cli.main(["reproduce"]) == 1
    assert "--list" in capsys.readouterr().err


def test_the_command_of_a_table_runs_it_again():
    plan = make_plan(
        EXPERIMENTS["table2"],
        SCALES["small"],
        data={"sst2": "a b"},
        seeds=[3, 4],
        k="epochs",
        settings={"device": "cpu"},
    )
    assert plan.command == (
        "declora reproduce table2 --scale small --data 'sst2=a b' --seeds 3,4 --k epochs --set device=cpu"
    )


def test_a_page_of_tuned_methods_runs_small_and_every_page_has_settings_that_can_be_run(
    site, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benches"))
    from tuned import TUNED, tuned

    tokenizer.save_pretrained(site / "model")
    tiny = {"rounds": 1, "local_steps": 1, "lora": {"r": 2}, "rates": [1e-2], "progress": False}
    small = {**tiny, "model": str(site / "model"), "client_eval_samples": 2, "methods": ["dec-lora"]}
    found = tuned("tuned-sst2-skew", site / "data", tmp_path, **small)
    assert found.table["row"].tolist() == ["dec-lora"]
    assert (tmp_path / "tuned-sst2-skew" / "comparison" / "table.md").exists()
    planned = []
    monkeypatch.setattr(declora, "compare", lambda rows, **settings: planned.append((rows, settings)))
    for page in TUNED:
        tuned(page, "data", tmp_path)
    assert len(planned) == 15
    for rows, settings in planned:
        own = {name: value for name, value in settings.items() if name not in ("seeds", "rates", "out")}
        for row in rows.values():
            plan_federation(SimulationConfig(**own, **row))
