"""`plan_rounds`: the closed form against the bound itself, whole numbers against all others, and bytes of real runs."""

import itertools
import re
import shlex
from functools import partial
from pathlib import Path

import datasets
import numpy as np
import pytest

import declora
from declora import cli
from declora.config import SimulationConfig
from declora.errors import ConfigError
from declora.experiments import budget, costs
from declora.experiments.bound import best_rounds, gain, most_steps
from tiny import tiny_bert, tiny_texts, tiny_tokenizer

PAGE = Path(__file__).parents[1] / "docs" / "plan.md"


SETTINGS = {
    "clients": 4, "batch_size": 2, "client_eval_samples": 0, "progress": False, "lora": {"r": 2},
}  # fmt: skip


@pytest.fixture
def settings(tokenizer):
    data = datasets.DatasetDict(train=tiny_texts(48), validation=tiny_texts(8))
    return {**SETTINGS, "model": tiny_bert(), "tokenizer": tokenizer, "data": data}


@pytest.fixture(scope="module")
def shared():
    """A trial for all tests that are not about it."""
    data = datasets.DatasetDict(train=tiny_texts(48), validation=tiny_texts(8))
    return costs.Trial(SimulationConfig(**SETTINGS, model=tiny_bert(), tokenizer=tiny_tokenizer(), data=data), 1)


@pytest.fixture
def plan_given(shared, monkeypatch):
    """Plans with steps of 0.1 and rounds of 0.5 seconds more."""
    monkeypatch.setattr(budget, "Trial", lambda config, rounds: shared)
    return partial(declora.plan_rounds, **SETTINGS, step_seconds=0.1, round_seconds=0.5)


def quadratic(rounds, seconds, alpha, beta, ratio):
    """The bound's c1 G - c2 (G^2 / T - G) of real T, in units of c2, as the paper's expansion has it."""
    steps = (seconds - rounds * beta) / alpha
    return ratio * steps - (steps**2 / rounds - steps)


GRID = list(itertools.product((50.0, 4000.0), (0.01, 0.3), (0.02, 1.0, 7.0), (0.5, 4.0, 60.0)))


@pytest.mark.parametrize(("seconds", "alpha", "beta", "ratio"), GRID)
def test_the_closed_form_is_where_brute_force_finds_the_bound_largest(seconds, alpha, beta, ratio):
    tried = np.linspace(0, seconds / beta, 200_001)[1:]  # the largest is nowhere near the first of so many
    brute = tried[np.argmax(quadratic(tried, seconds, alpha, beta, ratio))]
    found = best_rounds(seconds, step_seconds=alpha, round_seconds=beta, ratio=ratio)
    assert abs(found - brute) <= 0.01 * brute


def test_the_gain_is_the_second_order_of_the_papers_bound():
    eta, lipschitz, rho, delta, phi, eps, rounds, steps = 1e-6, 2.0, 0.7, 3.0, 4e-6, 1.3, 9, 14
    c1, c2 = eta * phi, rho * delta * eta**2 * lipschitz / (2 * eps**2)
    total = rounds * steps
    drift = (1 + eta * lipschitz) ** steps - 1 - eta * lipschitz * steps
    bracket = eta * phi * total - rho * delta * rounds / (lipschitz * eps**2) * drift
    # (1 + x)^K - 1 - x K = K (K - 1) x^2 / 2 + O(K^3 x^3), here x = 2e-6; the cancellation above loses 2e-16 / 4e-10.
    assert float(gain(rounds, steps, c1 / c2)) * c2 == pytest.approx(bracket, rel=1e-4)


def test_dearer_steps_dearer_rounds_and_liker_data_make_fewer_rounds_and_more_time_makes_more():
    def rounds(seconds=100.0, alpha=0.1, beta=0.5, delta=1.0):
        return best_rounds(seconds, step_seconds=alpha, round_seconds=beta, ratio=10 / delta)

    for name, values, sign in (
        ("alpha", (0.05, 0.1, 0.4), -1), ("beta", (0.1, 0.5, 3.0), -1), ("seconds", (50.0, 100.0, 900.0), 1),
        ("delta", (0.2, 1.0, 8.0), 1),
    ):  # fmt: skip
        assert (sign * np.diff([rounds(**{name: value}) for value in values]) > 0).all()


def test_a_step_more_than_the_most_gains_nothing_in_a_round():
    for ratio in (0.5, 3.0, 20.0, 20.9):
        gains = gain(1, np.arange(1, 40), ratio)
        assert most_steps(ratio) == 1 + np.argmax(gains)


@pytest.mark.parametrize("evaluation", [0.0, 2.0])
def test_rounds_of_a_time_fit_into_it_with_their_evaluations_and_nearly_fill_it(evaluation):
    each = costs.Costs(0.1, 0.2, evaluation, eval_every=3)
    for steps, seconds in itertools.product((1, 4, 9), (3.0, 17.0, 60.0)):
        rounds = each.rounds(seconds, steps)
        assert each.seconds(rounds, steps) <= seconds + 1e-9
        # One round more, and what an evaluation that was not due yet was set aside for.
        assert each.seconds(rounds + 1, steps) + evaluation > seconds
    assert each.seconds(4, 5) == pytest.approx(4 * 0.7 + 2 * evaluation)
    assert costs.Costs(0.1, 0.2, 0.0, 5).rounds(0.3, 1) == 1  # where 0.3 / (0.1 + 0.2) is below 1 in floats


@pytest.mark.parametrize(("seconds", "ratio"), [(23.0, 12.0), (3.1, 60.0)])
def test_no_whole_numbers_within_the_time_gain_more(plan_given, seconds, ratio):
    plan = plan_given(seconds=seconds, ratio=ratio)
    tried = [(t, k) for t in range(1, 60) for k in range(1, 60) if t * (0.5 + 0.1 * k) <= seconds + 1e-9]
    best = max(quadratic_of(*pair, ratio) for pair in tried)
    assert quadratic_of(plan.rounds, plan.local_steps, ratio) == pytest.approx(best)
    assert plan.seconds == pytest.approx(plan.rounds * (0.5 + 0.1 * plan.local_steps))
    chosen = plan.table[plan.table["local_steps"] == plan.local_steps].iloc[0]
    assert (chosen["rounds"], chosen["gain"], plan.table["gain"].max()) == (plan.rounds, 1.0, 1.0)


def quadratic_of(rounds, steps, ratio):
    return ratio * rounds * steps - (rounds * steps**2 - rounds * steps)


def test_bytes_are_those_of_the_run_to_the_last(settings):
    """Over rounds that send unlike columns along unlike edges, in messages of unlike lengths."""
    unlike = {"method": "tad-lora:interval=2", "topology": "base:1", "ranks": [1, 2, 3], "clients": 3,
              "lora": {"r": 2, "target_modules": ["query", "intermediate.dense"]}}  # fmt: skip
    plan = declora.plan_rounds(**settings | unlike, bytes="12kB", ratio=2)
    assert plan.local_steps == 1
    sent = declora.simulate(plan.config).history["bytes_sent"]
    assert sent.nunique() > 1
    assert int(sent.sum()) == plan.bytes <= 12_000 < plan.bytes + sent.max()
    assert min(plan.costs.step_seconds, plan.costs.round_seconds, plan.costs.evaluation_seconds) > 0


@pytest.mark.parametrize(
    "unlike",
    [
        {"faults": "dropout:p=0.3,rounds=2"},
        {"faults": "loss:p=0.3", "codec": "q4+choco"},
        {"faults": "duplicate:p=0.3,rounds=2+reorder:p=0.3"},
    ],
)
def test_bytes_are_those_of_the_run_where_clients_are_away_and_copies_are_brought_level(settings, unlike):
    plan = declora.plan_rounds(**settings | unlike, bytes="30kB", ratio=2, step_seconds=1, round_seconds=1)
    sent = declora.simulate(plan.config).history["bytes_sent"]
    assert sent.nunique() > 1
    assert int(sent.sum()) == plan.bytes <= 30_000
    assert "depends on what is in them" not in str(plan)


def test_bytes_of_messages_as_long_as_what_they_carry_are_those_of_the_trial(settings):
    plan = declora.plan_rounds(**settings, method="hafl", seconds=3, step_seconds=0.5, round_seconds=0.5)
    sent = declora.simulate(plan.config).history["bytes_sent"]
    assert int(sent.sum()) == plan.bytes  # half of the components in every round, the trial's among them
    assert "depends on what is in them" in str(plan)


def test_rounds_that_are_too_many_to_count_are_taken_to_repeat_the_first_ones(shared, monkeypatch):
    messages = shared.messages()
    each = messages.total(1)
    monkeypatch.setattr(costs.Messages, "COUNTED", 6)
    few = shared.messages()
    assert [few.total(rounds) for rounds in (0, 5, 6, 7, 600)] == [rounds * each for rounds in (0, 5, 6, 7, 600)]
    assert [few.within(most, 1000) for most in (each - 1, each, 601 * each - 1, 10**9)] == [0, 1, 600, 1000]


def test_with_both_budgets_both_hold(plan_given):
    plan = plan_given(seconds=4.1, bytes="10kB")
    fewer, alone = plan_given(bytes="10kB"), plan_given(seconds=4.1)
    assert plan.rounds == fewer.rounds < alone.rounds
    assert alone.local_steps < plan.local_steps < fewer.local_steps == 10
    assert plan.seconds <= 4.1
    assert "Bytes alone" in str(fewer)
    assert "Bytes alone" not in str(plan)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "no budget"),
        ({"seconds": -1}, "seconds=-1"),
        ({"bytes": "2 parsecs"}, "bytes='2 parsecs'"),
        ({"seconds": 9, "compare": "dec-lora,local"}, "compare is set"),
        ({"seconds": 0.55}, "does not pay a round of one local step, which takes 600 ms"),
        ({"seconds": 9, "clock": "lognormal", "round_seconds": None}, "clock='lognormal' has seconds of its own"),
        ({"bytes": 99}, "does not pay a round, which sends"),
    ],
)
def test_what_cannot_be_planned_is_refused(plan_given, arguments, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        plan_given(**arguments)


def test_what_the_method_cannot_run_is_refused_with_what_was_chosen(plan_given):
    """It needs a step for each of its two turns, and one is all that pays."""
    with pytest.raises(ConfigError, match=r"rounds=16 of local_steps=1 are .*: method='dfed-alt' trains.*at least 2"):
        plan_given(method="dfed-alt", seconds=10, ratio=1)


def test_clients_that_never_talk_have_no_rounds_to_plan():
    with pytest.raises(ConfigError, match=r"method='local' of clients=\d+ sends nothing"):
        declora.plan_rounds(method="local", model="nowhere", seconds=9)


def test_the_commands_of_the_page_plan_a_run_and_print_its_command(shared, tmp_path, monkeypatch, capsys):
    commands = re.search("```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[1].splitlines()
    seen = []
    monkeypatch.setattr(budget, "Trial", lambda config, rounds: seen.append((config, rounds)) or shared)
    monkeypatch.setattr(costs.Messages, "COUNTED", 60)
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text("clients = 3", encoding="utf-8")
    for command in commands:
        program, *words = shlex.split(command, comments=True)
        assert (program, cli.main([*words, "--set", "local_epochs=3"])) == ("declora", 0)
        printed = capsys.readouterr().out
        rounds, steps = (int(re.search(f"^{name} = (\\d+)$", printed, re.MULTILINE)[1])
                         for name in ("rounds", "local_steps"))  # fmt: skip
        said = printed.splitlines()[-1]
        assert said == f"declora simulate --config run.toml --local-epochs 3 --rounds {rounds} --local-steps {steps}"
        assert rounds > 1
    assert [(config.clients, rounds) for config, rounds in seen] == [(3, 3), (3, 3), (3, 1)]
