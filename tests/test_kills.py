"""SIGKILL at random moments: a run that is taken up again each time ends as one that was never touched."""

import numpy as np
import pytest

from kills import run_whole, run_with_kills
from resumable import RUNS, adapters_of, rounds_of

# Two or three kills each, twenty together: all that a run remembers of earlier rounds, several at a time.
KILLS = {"ef": 3, "choco": 3, "clipped": 3, "median": 3, "push-sum": 3, "gradient-tracking": 3, "tad-lora": 2}


@pytest.mark.parametrize("name", KILLS)
def test_a_run_that_is_killed_at_random_moments_ends_as_one_never_killed(name, tmp_path):
    whole, longest = run_whole(tmp_path / "whole", RUNS[name])
    rng = np.random.default_rng([16, *name.encode()])
    ends = list(run_with_kills(tmp_path / "killed", RUNS[name], kills=KILLS[name], longest=longest, rng=rng))
    assert sum(killed for _, killed in ends) == KILLS[name]
    for out, _ in ends:
        assert rounds_of(out) == rounds_of(whole)
        assert adapters_of(out) == adapters_of(whole)
