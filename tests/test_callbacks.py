"""Callbacks and trackers: what they hear of a run, that nothing of it depends on them, and what their mistakes cost."""

import json
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
import torch

import declora
from declora import simulation
from declora.callbacks import HOOKS
from declora.config import SimulationConfig
from declora.errors import CallbackError, ConfigError


class Heard(declora.Callback):
    """Notes what it hears, spoils what it is given, and fails where it is told to."""

    def __init__(self, fail=None, error=ValueError):
        self.fail, self.error, self.notes = fail, error, []

    def hear(self, hook, run, what):
        self.notes.append((hook, run.label, what))
        if self.fail == hook:
            raise self.error("mine.")

    def on_start(self, run):
        self.hear("on_start", run, (run.after, run.rounds, run.settings["clients"]))

    def on_round(self, run, record):
        clients = [own["client"] for own in record["clients"]]
        number = record["round"]
        record["clients"][0].clear()
        record.clear()
        self.hear("on_round", run, (number, clients))

    def on_evaluation(self, run, record):
        self.hear("on_evaluation", run, (record["round"], record["average_accuracy"]))

    def on_checkpoint(self, run, path):
        assert (path / "manifest.json").is_file()
        assert run.folder in path.parents
        self.hear("on_checkpoint", run, path.name)

    def on_end(self, run, result):
        self.hear("on_end", run, result)

    def on_stop(self, run, error):
        self.hear("on_stop", run, error)

    @property
    def hooks(self):
        return [hook for hook, *_ in self.notes]


# What they hear


def test_a_callback_hears_of_the_start_of_each_round_evaluation_and_checkpoint_and_of_the_end(tiny_run, tmp_path):
    plain = tiny_run(eval_every=2)
    heard = Heard()
    result = tiny_run(eval_every=2, callbacks=[heard], out=tmp_path / "run", checkpoint_every=2)
    assert heard.hooks == [
        "on_start", "on_round", "on_round", "on_evaluation", "on_checkpoint", "on_round", "on_evaluation",
        "on_checkpoint", "on_end",
    ]  # fmt: skip
    assert {label for _, label, _ in heard.notes} == {"dec-lora"}
    told = {hook: [what for name, _, what in heard.notes if name == hook] for hook in HOOKS}
    assert told["on_start"] == [(0, 3, 4)]
    assert told["on_round"] == [(1, [0, 1, 2, 3]), (2, [0, 1, 2, 3]), (3, [0, 1, 2, 3])]
    assert told["on_evaluation"] == list(result.history.dropna()[["round", "average_accuracy"]].itertuples(index=False))
    assert told["on_checkpoint"] == ["event-00000002", "event-00000003"]
    assert told["on_end"] == [result]
    # Nothing depends on it, whatever it does to what it is given.
    assert torch.equal(result.average.row, plain.average.row)
    measured = [name for name in plain.history if not name.startswith("seconds_")]
    assert result.history[measured].equals(plain.history[measured])
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [[own["client"] for own in line["clients"]] for line in lines] == [[0, 1, 2, 3]] * 3
    assert json.loads((tmp_path / "run" / "config.json").read_text())["callbacks"] == [f"<{heard}>"]


def test_what_a_callback_does_to_settings_is_nobody_elses(tiny_run):
    class Spoils(declora.Callback):
        def on_start(self, run):
            run.settings["clients"] = 99

    heard = Heard()
    tiny_run(rounds=1, callbacks=[Spoils(), heard])
    assert heard.notes[0] == ("on_start", "dec-lora", (0, 1, 4))


def test_the_callbacks_of_a_comparison_know_which_run_it_is_and_lose_none_that_had_finished(tiny_run):
    shared, own = Heard(), Heard()
    runs = {"a": {"method": "local"}, "b": {"callbacks": [own]}}
    comparison = tiny_run(rounds=1, callbacks=[shared], compare=runs)
    assert [label for hook, label, _ in shared.notes if hook == "on_end"] == ["a"]
    assert own.notes[-1] == ("on_end", "b", comparison["b"])
    own.fail = "on_end"
    with pytest.raises(CallbackError) as caught:
        tiny_run(rounds=1, callbacks=[shared], compare=runs)
    assert list(caught.value.result.results) == ["a", "b"]


def test_only_the_first_rank_of_a_cluster_calls_them(tiny_run, monkeypatch):
    heard = Heard()
    monkeypatch.setattr(simulation, "leads", lambda: False)
    tiny_run(rounds=1, callbacks=[heard], report_to="wandb")
    assert heard.notes == []


# What their mistakes cost


@pytest.mark.parametrize(
    ("hook", "when"),
    [
        ("on_start", "before the first round"),
        ("on_round", "in round 1"),
        ("on_evaluation", "in round 1"),
        ("on_end", "after the last round"),
    ],
)
def test_an_exception_stops_the_run_by_an_error_that_names_callback_and_hook(tiny_run, hook, when):
    first, failing, last = Heard(), Heard(hook), Heard()
    with pytest.raises(CallbackError) as caught:
        tiny_run(rounds=1, callbacks=[first, failing, last])
    error = caught.value
    named = f"Heard(fail={hook!r}, error=ValueError)"
    assert str(error).startswith(f"callback={named!r}: {hook}, {when} of 'dec-lora', raised ValueError: mine. ")
    assert isinstance(error.__cause__, ValueError)
    assert (error.result is None) == (hook != "on_end")
    # Each that has begun hears once how it ended, and nothing after that.
    assert failing.hooks.count("on_stop") == (hook != "on_end")
    assert first.hooks[-1] == ("on_end" if hook == "on_end" else "on_stop")
    assert last.hooks[-1:] == ([] if hook == "on_start" else ["on_stop"])
    if hook != "on_start":
        assert last.notes[-1][2] is error


def test_what_was_written_before_an_exception_stays_and_the_run_goes_on_from_there(tiny_run, tmp_path):
    settings = {"out": tmp_path / "run", "checkpoint_every": 2}
    objects = {name: tiny_run.keywords[name] for name in ("model", "tokenizer", "data")}
    whole = tiny_run()
    with pytest.raises(CallbackError, match=r"go on from the last checkpoint: declora\.resume\("):
        tiny_run(**settings, callbacks=[Heard("on_checkpoint")])
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    with pytest.raises(ConfigError, match=r"^callbacks=.*<Heard.*Callbacks may be others, or callbacks=None\.$"):
        declora.resume(tmp_path / "run", **objects)
    heard = Heard()
    resumed = declora.resume(tmp_path / "run", callbacks=[heard], **objects)
    assert torch.equal(resumed.average.row, whole.average.row)
    assert heard.notes[0][2][0] == 2
    assert heard.hooks.count("on_round") == 1
    found = declora.verify(tmp_path / "run", **objects)  # which needs no callbacks
    assert found.holds
    assert found.rounds == {"dec-lora": 3}


def test_a_ctrl_c_passes_and_a_mistake_in_on_stop_hides_no_error(tiny_run):
    heard = Heard("on_round", KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        tiny_run(callbacks=[heard])
    assert heard.hooks == ["on_start", "on_round", "on_stop"]

    class Twice(Heard):
        def on_stop(self, run, error):
            raise OSError("full")

    with pytest.raises(CallbackError, match="raised ValueError: mine") as caught:
        tiny_run(callbacks=[Twice("on_round"), heard])
    assert caught.value.__notes__ == [
        "on_stop of callback=\"Twice(fail='on_round', error=ValueError)\" raised OSError: full."
    ]
    assert heard.hooks[-1] == "on_stop"


def called(**hooks):
    return type("Mine", (declora.Callback,), hooks)()


def hooked(name):
    return called(**{name: lambda self, *given: None})


async def waiting(self, run, record):
    pass


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (Heard(), "must be a list of objects of classes that derive from declora.Callback"),
        ("Heard", "must be a list of objects"),
        ([Heard(), Heard], r"^callbacks\[1\]=Heard is a class. Give an object of it, Heard\(...\)"),
        ([print], r"^callbacks\[0\]=.* must be an object of a class of yours that derives from declora.Callback"),
        (
            [hooked("on_evaluate")],
            r"'Mine' has a method 'on_evaluate', which is no hook.*Did you mean 'on_evaluation'\?",
        ),
        ([hooked("on_train_end")], r"Did you mean 'on_end'\? Hooks: on_start, on_round, "),
        (
            [called(on_end=lambda self, result: None)],
            r"^callbacks\[0\]='Mine': on_end is called as on_end\(run, result\), but too many positional arguments\.$",
        ),
        ([called(on_stop=lambda self, run, error, more: None)], r"on_stop is called as .*missing a required argument"),
        ([called(on_round=waiting)], r"'Mine': on_round is async, and nobody would wait for it"),
        ([called(on_round=3)], r"on_round is called as on_round\(run, record\), but 3 is not a callable object"),
    ],
)
def test_what_would_never_be_called_is_refused(callbacks, message):
    with pytest.raises(ConfigError, match=message):
        SimulationConfig(callbacks=callbacks)


# Trackers


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, None),
        ({"report_to": "none"}, None),
        ({"report_to": []}, None),
        ({"tensorboard": True}, ["tensorboard"]),
        ({"report_to": "tensorboard"}, ["tensorboard"]),
        ({"report_to": "wandb, mlflow,wandb"}, ["wandb", "mlflow"]),
        ({"report_to": ["wandb"], "tensorboard": True}, ["wandb", "tensorboard"]),
        ({"report_to": ["wandb"], "tensorboard": False}, ["wandb"]),
    ],
    ids=str,
)
def test_tensorboard_and_report_to_say_one_thing(settings, named):
    config = SimulationConfig(out="run", **settings)
    assert (config.report_to, config.tensorboard) == (named, "tensorboard" in (named or ()))
    assert SimulationConfig().override(**config.describe()) == config.override(out=config.describe()["out"])


def test_tensorboard_without_a_folder_is_refused_by_the_name_that_was_given():
    with pytest.raises(ConfigError, match=r"^report_to=\['tensorboard'\] needs a run folder"):
        SimulationConfig().override(report_to="tensorboard")
    with pytest.raises(ConfigError, match=r"^tensorboard=True needs a run folder"):
        SimulationConfig(tensorboard=True)


def test_a_change_of_one_changes_what_the_other_says():
    both = SimulationConfig(out="run", report_to=["tensorboard", "wandb"])
    assert both.override(tensorboard=False).report_to == ["wandb"]
    assert both.override(report_to="mlflow").tensorboard is False
    assert both.override(report_to=None).report_to is None
    assert both.override(tensorboard=True) == both
    with pytest.raises(ConfigError, match=r"^tensorboard=False and report_to=\['tensorboard'\] contradict each other"):
        SimulationConfig(out="run", report_to="tensorboard", tensorboard=False)
    with pytest.raises(ConfigError, match=r"^report_to='wandbb' is not known. Did you mean 'wandb'"):
        SimulationConfig(report_to=["wandbb"])


@pytest.mark.parametrize("compare", [None, {"a": {}, "b": {"report_to": "mlflow"}}])
def test_a_package_that_is_not_there_is_named_before_anything_is_loaded(compare, tmp_path, monkeypatch):
    monkeypatch.setattr(simulation, "prepare", lambda config: pytest.fail("something was loaded"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    name = "wandb" if compare is None else "mlflow"
    with pytest.raises(ConfigError, match=f"^report_to='{name}' needs the package {name}: pip install {name}\\.$"):
        declora.simulate(compare=compare, report_to=None if compare else "wandb")
    # A folder of that name, in which wandb keeps its runs, is no package.
    monkeypatch.delitem(sys.modules, "wandb")
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match="pip install wandb"):
        declora.simulate(report_to="wandb")


class Service:
    """Stands for what a tracker's package has, and notes its calls."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*given, **named):
            self.calls.append((name, *given, *([named] if named else [])))
            return self

        return call

    def named(self, name):
        return [given for called, *given in self.calls if called == name]


@pytest.fixture
def install(monkeypatch):
    """Puts a module in the place of a package."""

    def put(name, **names):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None, origin="here", is_package=True)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    for name in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "TRACKIO_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    return put


def losses(history):
    return history["train_loss"].tolist()


def test_wandb_has_settings_numbers_by_round_and_an_end(tiny_run, install, tmp_path):
    service = Service()
    service.config = Service()
    module = install("wandb", run=None, init=lambda **named: service.init(**named))
    result = tiny_run(report_to="wandb", out=tmp_path / "mine")
    (begun,) = service.named("init")
    assert begun[0].items() >= {"project": "declora", "resume": "allow", "name": "mine: dec-lora"}.items()
    assert service.config.calls[0][1]["clients"] == 4
    assert service.named("define_metric") == [["*", {"step_metric": "round"}]]
    sent = [numbers for (numbers,) in service.named("log")]
    assert [numbers["round"] for numbers in sent] == [1, 2, 3]
    assert [numbers["loss/train"] for numbers in sent] == losses(result.history)
    assert sent[-1]["accuracy/average"] == result.history["average_accuracy"].iloc[-1]
    assert all(isinstance(value, float | int) for numbers in sent for value in numbers.values())
    assert service.named("finish") == [[]]
    # A run that somebody has begun is used, and theirs to end.
    module.run, service.calls = service, []
    tiny_run(report_to="wandb", rounds=1)
    assert [name for name, *_ in service.calls] == ["define_metric", "log"]


def test_mlflow_has_parameters_metrics_by_round_and_a_status(tiny_run, install):
    service = Service()
    service.get_experiment_by_name = lambda name: SimpleNamespace(experiment_id=f"of {name}")
    service.create_run = lambda experiment, **named: (
        service.begin(experiment, named) and SimpleNamespace(info=SimpleNamespace(run_id="7"))
    )
    install("mlflow", MlflowClient=lambda: service, active_run=lambda: None)
    install("mlflow.entities", Param=lambda *given: given, Metric=lambda *given: given)
    result = tiny_run(report_to="mlflow")
    ((experiment, named),) = service.named("begin")
    assert (experiment, named["run_name"]) == ("of declora", "dec-lora")
    batches = [what for _, what in service.named("log_batch")]
    assert ("clients", "4") in batches[0]["params"]
    assert max(len(text) for _, text in batches[0]["params"]) <= 500
    metrics = {(name, step): value for batch in batches[1:] for name, value, _, step in batch["metrics"]}
    assert [metrics["loss/train", step] for step in (1, 2, 3)] == losses(result.history)
    assert service.named("set_terminated") == [["7", "FINISHED"]]
    with pytest.raises(CallbackError):
        tiny_run(report_to="mlflow", callbacks=[Heard("on_round")])
    assert service.named("set_terminated")[-1] == ["7", "FAILED"]


def test_trackio_has_settings_and_numbers_by_round_and_an_end(tiny_run, install):
    service = Service()
    install("trackio", init=lambda **named: service.init(**named))
    result = tiny_run(report_to="trackio")
    ((begun,),) = service.named("init")
    assert begun["project"] == "declora"
    assert begun["config"]["clients"] == 4
    sent = {named["step"]: numbers["loss/train"] for numbers, named in service.named("log")}
    assert sent == dict(zip([1, 2, 3], losses(result.history), strict=True))
    assert service.named("finish") == [[]]


def test_a_tracker_that_cannot_begin_stops_the_run_and_one_that_fails_later_costs_a_warning(tiny_run, install):
    def no(*given, **named):
        raise ConnectionError("nobody answers")

    service = Service()
    service.log = no
    install("trackio", init=lambda **named: service)
    with pytest.warns(UserWarning, match=r"^report_to='trackio' fails and hears no more.*ConnectionError: nobody"):
        assert len(tiny_run(report_to="trackio", rounds=2).history) == 2
    assert service.named("finish") == []
    install("trackio", init=no)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="report_to")
        with pytest.raises(CallbackError, match=r"^callback='report_to=trackio': on_start, before"):
            tiny_run(report_to="trackio", rounds=2)
