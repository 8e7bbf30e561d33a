"""Ranks that were lost, and come back into the run."""

import json

import numpy as np
import pytest
import torch
from torch.distributed import HashStore

from clusters import Fallen, Falls, MemoryCluster, Noting, compare_ranks, memory_clusters, run_ranks
from declora import ConfigError
from declora._bridge import HEADER_BYTES
from declora.cluster import Kind, LinkLost
from resumable import OBJECTS, SETTINGS, model_of

LAST = 6
STRAYS = "+duplicate:p=0.5,rounds=2+reorder:p=0.3,rounds=1"
SPREAD = {
    **OBJECTS,
    **SETTINGS,
    "clients": 6,
    "rounds": LAST,
    "group_size": 1,
    "eval_every": 1,
    "checkpoint_every": None,
}


def mean_of(rows):
    return torch.stack(list(rows.values())).mean(0)


def settings(**more):
    return {**SPREAD, "model": model_of(), **more}


@pytest.mark.parametrize("more", [{"codec": "q4+choco"}, {"codec": "none", "faults": f"delay:p=0.5,rounds=3{STRAYS}"}])
def test_a_rank_that_comes_back_goes_on_from_what_rank_0_knew_and_the_mean_of_all_is_kept_again(more):
    clusters = memory_clusters(3, HashStore())
    falls = Noting(clusters, waits=4)
    own = settings(**more, topology="ring", method=falls, learning_rate=1e-2)
    with pytest.warns(UserWarning, match="came back in round 5 with what these clients had after round 1"):
        runs, left = run_ranks(3, clusters, falling=Fallen, again={2: {}}, **own)
    history = left[0].history
    assert history["clients_lost"].fillna(0).tolist() == [0, 2, 2, 2, 0, 0]
    assert left[0].clients.groupby("round").size().tolist() == [6, 4, 4, 4, 6, 6]
    assert [note for note in left[0].notes if note.startswith("Rank 2")] == [
        "Rank 2 with clients 4 to 5 was lost in round 2: its connection was closed. The others went on without them; "
        "what is kept of these clients is of round 1.",
        "Rank 2 with clients 4 to 5 came back in round 5 with what these clients had after round 1.",
    ]
    for event in range(LAST):  # doubly stochastic, over those who are there
        assert len(falls.before[event]) == (4 if event in (1, 2, 3) else 6)
        assert torch.allclose(mean_of(falls.before[event]), mean_of(falls.after[event]), atol=1e-7)
    moved = {client: falls.before[4][client] - falls.after[0][client] for client in (4, 5)}
    assert all(0 < step.abs().max() < 0.05 for step in moved.values())  # its own steps alone, of learning rate 0.01
    assert {run.state.event for run in runs} == {LAST}
    assert torch.equal(left[0].rows[4:], left[2].rows)
    if more["codec"] != "none":
        copies = {}
        for run in runs:
            known = run._gossip._exchange.routes.known
            for client, copy in zip(known.tolist(), run.state.room("memory")["state"], strict=True):
                assert np.array_equal(copies.setdefault(client, copy), copy)
        sent = history["bytes_sent"].tolist()
        # The rank is joined to the others by two edges, along which a copy goes each way, in float32 behind a header.
        assert sent[4] - sent[5] == 4 * (HEADER_BYTES + 4 * left[0].rows.shape[1])


@pytest.mark.parametrize("more", [{"overlap": True, "codec": "q4+choco"}, {"method": "local"}, {"clients": 8}])
def test_whatever_is_sent_and_when_the_rank_takes_part_from_the_round_that_is_said(more):
    ranks = more.get("clients", 6) // 2  # of four on a ring, one is no neighbour of the one that comes back
    clusters = memory_clusters(ranks, HashStore())
    stack = [*([more["method"]] if "method" in more else []), Falls(clusters, waits=3)]
    own = settings(**{**more, "method": stack, "eval_every": LAST})
    with pytest.warns(UserWarning, match="came back in round 4"):
        _, left = run_ranks(ranks, clusters, falling=Fallen, again={ranks - 1: {}}, **own)
    assert left[0].history["clients_lost"].fillna(0).tolist() == [0, 2, 2, 0, 0, 0]
    assert left[-1].history["round"].tolist() == [4, 5, 6]


def test_a_rank_of_which_nothing_was_told_comes_back_with_what_all_began_with():
    clusters = memory_clusters(3, HashStore())
    falls = Noting(clusters, waits=3)
    more = {"codec": "none", "method": falls, "eval_every": LAST}
    with pytest.warns(UserWarning, match="before the first round: nothing later is known"):
        runs, _ = run_ranks(3, clusters, falling=Fallen, again={2: {}}, **settings(**more))
    first = runs[0]._surgery.initial.double()
    assert 0 < (falls.before[3][4] - first).abs().max() < 0.05  # its steps of one round


def test_a_rank_that_comes_back_when_no_round_is_left_is_told_so_and_the_others_end_as_ever():
    clusters = memory_clusters(3, HashStore())
    falls = Falls(clusters, dies=LAST - 1)
    falls.awaited = 1

    def observe(run, record):
        if run.gathering.leads and record["round"] == LAST:
            falls.there.release()

    with pytest.warns(UserWarning, match="was lost in round 6"):
        _, left = run_ranks(
            3,
            clusters,
            observe=observe,
            falling=(Fallen, ConfigError),
            again={2: {}},
            **settings(method=falls, eval_every=LAST),
        )
    assert str(left[2]) == "rank 2 comes back too late: no round is left that it could take part in."
    assert len(left[0].history) == LAST
    assert left[0].history["clients_lost"].fillna(0).tolist() == [0, 0, 0, 0, 0, 2]


def test_a_rank_that_comes_back_with_other_settings_is_refused_by_name_and_the_others_go_on():
    clusters = memory_clusters(3, HashStore())
    more = {"method": Falls(clusters), "eval_every": LAST}
    with pytest.warns(UserWarning, match="was lost in round 2"):
        _, left = run_ranks(
            3, clusters, falling=(Fallen, ConfigError), again={2: {"learning_rate": 3e-3}}, **settings(**more)
        )
    assert str(left[2]).startswith("learning_rate: 0.005 at rank 0, but 0.003 at rank 2.")
    assert left[0].history["clients_lost"].fillna(0).tolist() == [0, 2, 2, 2, 2, 2]


def test_a_rank_comes_back_into_a_later_run_of_a_comparison_and_leaves_out_those_that_are_over(tmp_path, monkeypatch):
    monkeypatch.setattr("declora.simulation.write_comparison", lambda folder, comparison: None)
    monkeypatch.setattr("declora.simulation.write_run", lambda folder, result, label, log: log.complete())
    clusters = memory_clusters(2, HashStore())
    more = {"clients": 4, "rounds": 4, "topology": "complete", "client_eval_samples": 0}
    runs = {"a": {"rounds": 2, "topology": "ring"}, "b": {"method": Noting(clusters, waits=2)}, "c": {"rounds": 1}}
    with pytest.warns(UserWarning, match="came back in round 3 with what these clients had after round 1"):
        left = compare_ranks([tmp_path / "0", tmp_path / "1"], monkeypatch, clusters, compare=runs, **settings(**more))
    assert [list(one.results) for one in left] == [["a", "b", "c"], ["b", "c"]]
    assert left[0].results["b"].history["clients_lost"].fillna(0).tolist() == [0, 2, 0, 0]
    assert "clients_lost" not in left[0].results["c"].history
    assert not any("came back" in note for note in left[0].results["c"].notes)
    for run in "bc":
        assert torch.equal(left[0].results[run]._outcome.rows[2:], left[1].results[run]._outcome.rows)


def test_who_is_no_lost_rank_of_the_first_run_is_not_let_in():
    clusters = memory_clusters(2, HashStore())
    clusters[0].connect((), patience=0.1)
    clusters[0].begin(0, lambda rank, link: True, 3)
    with pytest.raises(ConfigError, match="rank 1 has not been lost: another process with RANK=1 takes part"):
        clusters[1].again().connect((), patience=0.1)
    stranger = MemoryCluster(5, 6, clusters[0].store, clusters[0].waiting, returning=True)
    with pytest.raises(ConfigError, match="RANK=5 is none of the 2 ranks of the run"):
        stranger.connect((), patience=0.1)
    clusters[0].links[1].lose()
    clusters[0].calls = 2
    with pytest.raises(ConfigError, match="the process of rank 0 has called simulate 2 times"):
        clusters[1].again().connect((), patience=0.1)


def test_a_rank_that_is_lost_again_while_it_comes_back_holds_up_nobody_and_may_come_again():
    clusters = memory_clusters(3, HashStore())
    for cluster in clusters:
        cluster.connect({(0, 1), (1, 2), (0, 2)}, patience=5)
        cluster.begin(0, lambda rank, link: True, 9)
    for cluster in clusters[:2]:
        assert not cluster.returns.enter(0)
        cluster.links[2].lose()
    for falls in (True, False):
        again = clusters[2].again()
        again.connect({(1, 2), (0, 2)}, patience=5)
        if falls:
            again.links[0].send(Kind.ANSWER, 0, b"0")
            assert again.hear(0, Kind.CALL, 0) is not None
            again.links[0].lose()  # before it has linked with rank 1
        else:
            assert again.returns.rejoin(0) == 1
            assert again.returns.enter(1) == {0, 1, 2}
    for cluster in clusters[:2]:
        assert cluster.returns.enter(1) == {2}
        cluster.links[2].send(Kind.FRAMES, 1, b"here")
    assert bytes(again.hear(1, Kind.FRAMES, 1)) == bytes(again.hear(0, Kind.FRAMES, 1)) == b"here"


def test_where_rank_0_is_lost_before_it_says_from_when_on_the_others_go_on_without_the_rank():
    clusters = memory_clusters(3, HashStore())
    for cluster in clusters[:2]:
        cluster.connect({(1, 2)}, patience=5)
    clusters[1].begin(0, lambda rank, link: True, 9)
    clusters[1].links[2].lose()
    for call in ({"what": "link", "rank": 2, "attempt": 1}, {"what": "ask"}):
        clusters[0].links[1].send(Kind.CALL, 0, json.dumps(call).encode())
    again = clusters[2].again()
    link = again.reach(1, 1)
    assert bytes(clusters[0].hear(1, Kind.ANSWER, 0)) == b"-1"
    clusters[0].links[1].lose()
    assert not clusters[1].returns.enter(0)
    with pytest.raises(LinkLost):
        link.receive(Kind.FRAMES, 0)
