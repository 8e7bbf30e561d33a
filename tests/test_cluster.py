"""Runs that are spread over ranks: the bits of one process, and what becomes of a rank that is lost."""

import json
import math
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import networkx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import declora
from clusters import MemoryCluster, memory_clusters, run_ranks, together
from declora import CodecError, ConfigError, DecloraError, SimulationConfig, TrainingError
from declora.agreement import agree
from declora.cli import main
from declora.cluster import Cluster, Kind, LinkLost, Site, divide
from declora.cluster.guard import Guard
from declora.exchange import LocalExchange, SpreadExchange, known_to, neighbouring
from declora.prepare import prepare
from declora.report import Earlier
from declora.round_graph import Audience
from declora.run import Run
from declora.simulation import configs_of, ready
from declora.store import Checkpoint
from declora.topology import Topology
from resumable import OBJECTS, SETTINGS, SPREAD_RUNS, model_of

SPREAD = {**OBJECTS, **SETTINGS, "rounds": 2, "group_size": 1}
KINDS = (
    "no memory", "choco", "dropout", "hafl", "fedex-lora", "ranks of factors", "overlap", "delay", "push-sum", "fedavg",
    "lazy", "median", "kd", "ledger", "late strays", "unlike strays", "another's message", "different lies",
    "all with all", "all with all but who is refused",
)  # fmt: skip
"""Of ways in which rows of others, numbers drawn for clients and messages of a round may matter; benches/cluster.py has
all that can be spread."""


def settings(**more):
    return {**SPREAD, "model": model_of(), **more}


def alone(earlier=None, **more):
    (run,) = ready(configs_of(SimulationConfig(**settings(**more)))).values()
    return run, run.execute(earlier=earlier)


def measured(outcome):
    """A history without what a clock measured; nor what one process alone measures of rounds without an evaluation."""
    return [
        {
            name: value
            for name, value in sorted(row.items())
            if not name.startswith("seconds_") and (name != "consensus_distance" or not row["round"] % 2)
        }
        for row in outcome.history.astype(object).to_dict("records")
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_and_four_give_the_bits_and_the_figures_of_one_process(kind, tmp_path):
    more = {**SPREAD_RUNS.get(kind, {kind: True}), "out": str(tmp_path)}  # nobody writes there, but states are digested
    begun = Earlier.nothing()  # one name of the run, which is in its messages, and in what is kept of them
    _, whole = alone(begun, **more)
    for ranks in (2, 4) if kind == "choco" else (2,):
        _, left = run_ranks(ranks, earlier=begun, **settings(**more))
        assert torch.equal(left[0].rows, whole.rows)
        assert torch.equal(left[0].mean, whole.mean)
        assert repr(measured(left[0])) == repr(measured(whole))
        # Clients' own models are evaluated as many at once as a rank has: their losses are rounded otherwise.
        pd.testing.assert_frame_equal(left[0].clients, whole.clients, rtol=1e-6)


def test_every_rank_has_whole_groups_and_all_clients_are_somewhere():
    for clients, ranks, group in [(10, 3, 2), (7, 2, 3), (4, 4, 1), (1000, 7, 16)]:
        sites = divide(clients, ranks, group_size=group)
        assert [client for site in sites for client in site.ids] == list(range(clients))
        assert all(site.start % group == 0 and site.stop > site.start for site in sites)
        sizes = [-(-(site.stop - site.start) // group) for site in sites]
        assert max(sizes) - min(sizes) <= 1
    with pytest.raises(
        ConfigError, match=r"group_size=8: 10 clients are 2 groups, too few for 3 ranks. Set group_size=3"
    ):
        divide(10, 3, group_size=8)
    with pytest.raises(ConfigError, match="clients=2 are too few for 3 ranks"):
        divide(2, 3, group_size=1)


def test_a_rank_knows_its_clients_and_their_neighbours_alone():
    graphs = Topology.build("ring", 12).graphs
    sites = divide(12, 3, group_size=1)
    assert known_to(sites[1], graphs).tolist() == [3, 4, 5, 6, 7, 8]
    assert neighbouring(sites, graphs) == {(0, 1), (1, 2), (0, 2)}
    sites = divide(12, 4, group_size=1)
    assert neighbouring(sites, graphs) == {(0, 1), (1, 2), (2, 3), (0, 3)}
    assert neighbouring(sites, graphs, [4]) == {(0, 1), (1, 2), (2, 3), (0, 3), (1, 3)}  # 4 lies, and knows all


def test_what_all_have_comes_to_ranks_with_liars_alone_and_of_a_lost_rank_what_it_had_last():
    graphs, sites = Topology.build("ring", 6).graphs, divide(6, 3, group_size=1)
    clusters = memory_clusters(3)
    exchanges = [SpreadExchange(one, sites, graphs, LocalExchange(), [1]) for one in clusters]
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)

    def told(t, factor, ranks):
        found = {}
        for rank in reversed(ranks):  # the one that listens comes last
            routes = exchanges[rank].routes
            found[rank] = exchanges[rank].everyone(t, routes.placed(factor * rows[sites[rank].rows]), after=False)
        return found

    found = told(0, 1, range(3))
    assert np.array_equal(found[0], rows)
    assert found[1] is found[2] is None
    assert [clusters[rank].links[0].bytes_sent for rank in (1, 2)] == [24 + 2 * 2 * 4] * 2
    clusters[0].links[2].lose()
    assert np.array_equal(told(1, 2, range(2))[0], np.concatenate([2 * rows[:4], rows[4:]]))


def deliver_all(clusters, exchanges, frames, sizes, edges):
    """Has all ranks deliver at once; returns what each holds."""
    found = [None] * len(clusters)

    def work(rank):
        routes = exchanges[rank].routes
        own = np.zeros((len(routes.known), frames.shape[1]), dtype=np.uint8)
        own[routes.own] = frames[routes.known][routes.own]
        found[rank] = exchanges[rank].deliver(own, sizes[routes.known], Audience.of(routes.edges(edges), len(own)))

    together(work, len(clusters))
    return found


def test_a_frame_goes_to_each_rank_once_and_the_link_carries_what_is_counted_and_the_envelope():
    topology = Topology.build("complete", 6)
    clusters, sites = memory_clusters(2), divide(6, 2, group_size=1)
    exchanges = [SpreadExchange(cluster, sites, topology.graphs, LocalExchange()) for cluster in clusters]
    frames = np.random.default_rng(0).integers(0, 256, (6, 40), dtype=np.uint8)
    sizes = np.array([40, 39, 30, 20, 10, 5])
    frames[np.arange(40) >= sizes[:, None]] = 0
    for delivery in deliver_all(clusters, exchanges, frames, sizes, topology.edges(0)):
        assert np.array_equal(delivery.frames, frames)
        assert delivery.gone is None
    # 24 bytes before the frames of three clients, 8 for the size of each, and 24 that say that the others have come.
    assert [clusters[0].links[1].bytes_sent, clusters[1].links[0].bytes_sent] == [
        24 + 3 * 8 + 40 + 39 + 30 + 24,
        24 + 3 * 8 + 20 + 10 + 5 + 24,
    ]


def test_where_one_rank_does_not_hear_another_neither_counts_the_others_message():
    topology = Topology.build("complete", 4)
    clusters, sites = memory_clusters(2), divide(4, 2, group_size=1)
    exchanges = [SpreadExchange(cluster, sites, topology.graphs, LocalExchange()) for cluster in clusters]
    here, there = clusters[0].links[1], clusters[1].links[0]
    here.incoming[Kind.FRAMES].put(None)  # rank 0 has heard nothing, though rank 1 will have heard rank 0
    here.why = ""
    receive = here.receive

    def deaf(kind, number):
        if kind is Kind.FRAMES:
            here.lose("it was silent")
            raise LinkLost("it was silent")
        return receive(kind, number)

    here.receive = deaf
    frames, sizes = np.ones((4, 8), dtype=np.uint8), np.full(4, 8)
    found = deliver_all(clusters, exchanges, frames, sizes, topology.edges(0))
    assert found[0].gone.tolist() == [False, False, True, True]
    assert found[1].gone.tolist() == [True, True, False, False]
    assert there.why


def falling(seen):
    """Returns a method whose rank with client 2 falls in the second round; `seen` gets what clients send."""

    class Falls(declora.Part):
        name = "falls"

        def before_round(self, state, plan):
            if plan.event == 1 and 2 in state.clients:
                raise RuntimeError("power failure")

        def lift(self, state, plan):
            seen[tuple(state.clients.tolist()), plan.event] = state.adapter.clone()
            return state.adapter

    return Falls()


@pytest.mark.parametrize("mixer", ["linear", "median"])
def test_a_lost_rank_keeps_what_it_had_and_the_mean_of_the_others_is_kept(mixer, tmp_path):
    clusters, seen = memory_clusters(3), {}
    more = {
        "clients": 3,
        "codec": "none",
        "topology": "complete",
        "mixer": mixer,
        "method": falling(seen),
        "out": str(tmp_path),
        "rounds": 3,
        "eval_every": 1,  # in rounds with an evaluation the state comes together
    }
    with pytest.warns(UserWarning, match="Rank 2 with clients 2 to 2 was lost in round 2"):
        _, left = run_ranks(3, clusters, falling=RuntimeError, **settings(**more, learning_rate=1e-2))
    outcome = left[0]
    assert any("was lost in round 2" in note for note in outcome.notes)
    assert outcome.history["clients_lost"].fillna(0).tolist() == [0, 1, 1]
    assert outcome.clients.groupby("round").size().tolist() == [3, 2, 2]
    before = torch.stack([seen[(client,), 2][0] for client in (0, 1)])
    after = outcome.rows[:2]
    if mixer == "linear":  # what client 2 weighed stayed at home on both ends
        assert torch.allclose(after.double().mean(0), before.double().mean(0), atol=1e-7)
        assert torch.allclose(after, (before + (before[[1, 0]] - before) / 3), atol=1e-6)
    first = torch.stack([seen[(client,), 0][0] for client in (0, 1, 2)])
    kept = first.mean(0) if mixer == "linear" else first.median(0).values
    assert torch.allclose(outcome.rows[2], kept, atol=1e-6)  # of the last round that it finished
    assert torch.allclose(outcome.mean, after.mean(0), atol=1e-7)


def test_what_a_lost_rank_sent_and_is_late_moves_nobody(tmp_path):
    seen = {}
    more = {"clients": 3, "codec": "none", "topology": "complete", "faults": "delay:p=1", "rounds": 2}
    with pytest.warns(UserWarning, match="was lost in round 2"):
        _, left = run_ranks(
            3, falling=RuntimeError, **settings(**more, method=falling(seen), out=str(tmp_path), learning_rate=1e-2)
        )
    first, second = (torch.cat([seen[(client,), t] for client in (0, 1)]) for t in (0, 1))
    pull = math.sin(math.pi / 6) * (first[[1, 0]] - first) / 3  # of each other, as they were then
    assert torch.allclose(left[0].rows[:2], second + pull, atol=1e-6)


def test_shares_that_a_lost_rank_would_have_heard_stay_with_their_senders(tmp_path):
    graph, seen = networkx.DiGraph([(0, 1), (1, 0), (0, 2), (2, 1)]), {}
    more = {"clients": 3, "codec": "none", "topology": graph, "mixer": "push-sum", "rounds": 4, "out": str(tmp_path)}

    def keep(run, record):
        room, own = run.state.room("mixer"), run.gathering.site.start
        if own < 2:  # who of the known is first, is the client itself: all are known to all
            seen[own, record["round"]] = room["weights"][own], room["numerators"][own].astype(np.float64)

    with pytest.warns(UserWarning, match="was lost in round 2"):
        run_ranks(3, falling=RuntimeError, observe=keep, **settings(**more, method=falling({}), learning_rate=1e-12))
    weights, numerators = (
        [sum(seen[client, number][what] for client in (0, 1)) for number in range(1, 5)] for what in (0, 1)
    )
    assert weights[0] == pytest.approx(2 + 1 / 2 - 1 / 3)  # what client 2 gave, and what it got
    assert weights[1:] == pytest.approx([weights[0]] * 3)
    for later in numerators[1:]:
        np.testing.assert_allclose(later, numerators[0], atol=1e-6)


def test_a_run_of_one_process_goes_on_in_two_ranks_and_theirs_in_one(tmp_path):
    more = {"codec": "q4+choco", "method": "gradient-tracking", "out": str(tmp_path), "rounds": 4, "eval_every": 1}
    _, whole = alone(**more)
    (begun,) = ready(configs_of(SimulationConfig(**settings(**more)))).values()
    kept = []

    def keep(run, record):
        if run.gathering.leads and record["round"] < 4:
            arrays = {name: array.copy() for name, array in run.whole.arrays().items()}
            checkpoint = Checkpoint(run.state.run_id.hex(), record["round"], arrays, {})
            kept.append(Earlier(checkpoint.run, checkpoint, [record]))

    begun.execute(lambda record: keep(begun, record))
    _, left = run_ranks(2, earlier=kept[0], observe=keep, **settings(**more))
    assert torch.equal(left[0].rows, whole.rows)
    after_three_rounds = kept[-1]
    assert (after_three_rounds.event, len(kept)) == (3, 5)
    (again,) = ready(configs_of(SimulationConfig(**settings(**more)))).values()
    assert torch.equal(again.execute(earlier=after_three_rounds).rows, whole.rows)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"method": "centralized"}, "has one client"),
        ({"attack": "dissensus", "codec": "q4+choco"}, r"keeps each message.* Use codec='q4:"),
        (
            {"attack": "dissensus", "faults": "duplicate:p=0.1"},
            "faults='duplicate:p=0.1,rounds=1' keeps each m.* Set rounds=0",
        ),
    ],
)
def test_what_needs_all_clients_in_one_process_is_refused_with_the_reason(more, why):
    (config,) = configs_of(SimulationConfig(**settings(**{"checkpoint_every": None, **more}))).values()
    with pytest.raises(ConfigError, match=why):
        Run(config, prepare(config), cluster=MemoryCluster(0, 2))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (({"learning_rate": 1e-3}, {"learning_rate": 2e-3}), "learning_rate: 0.001 at rank 0, but 0.002 at rank 1."),
        (({}, {"model": model_of(seed=1)}), "the model's weights: "),
    ],
)
def test_ranks_with_other_settings_or_weights_are_refused_by_name_at_both(own, said):
    clusters, raised = memory_clusters(2), [None, None]
    runs = []
    for cluster, more in zip(clusters, own, strict=True):
        config = SimulationConfig(**settings(**{"checkpoint_every": None, **more}))
        runs.append(Run(config, prepare(config), cluster=cluster))

    def work(rank):
        with pytest.raises(ConfigError) as caught:
            runs[rank].execute()
        raised[rank] = str(caught.value)

    together(work, 2)
    assert raised[0] == raised[1]
    assert raised[0].startswith(said)


@pytest.mark.parametrize(
    ("own", "resumes", "said"),
    [
        (({"checkpoint_every": 2}, {"checkpoint_every": 3}), (), "checkpoint_every: 2 at rank 0, but 3 at rank 1."),
        (({}, {"checkpoint_every": 3}), (), "checkpoint_every: None at rank 0, but 3 at rank 1."),
        (({}, {}), (1,), "resume: False at rank 0, but True at rank 1."),
        (({"rounds": 3}, {"rounds": 4}), (), "rounds: 3 at rank 0, but 4 at rank 1."),
        (({"compare": ["dec-lora"]}, {"compare": ["dec-lora", "local"]}), (), "compare: ['dec-lora'] at rank 0, but ["),
    ],
)
def test_ranks_that_were_not_started_alike_hear_what_is_different_before_anything_is_loaded(own, resumes, said):
    clusters, raised = memory_clusters(3), [None] * 3
    configs = [SimulationConfig(out="run", **more) for more in (*own, own[0])]

    def work(rank):
        with pytest.raises(ConfigError) as caught:
            agree(clusters[rank], configs[rank], resume=rank in resumes)
        raised[rank] = str(caught.value)

    together(work, 3)
    assert len(set(raised)) == 1
    assert raised[0].startswith(said)
    assert raised[0].endswith("Start all ranks with the same command and settings.")


def test_ranks_that_were_started_alike_may_write_elsewhere_and_find_things_elsewhere():
    clusters = memory_clusters(2)
    own = [{"out": f"run{rank}", "data": f"{rank}.csv", "progress": bool(rank)} for rank in range(2)]
    configs = [SimulationConfig(**more, compare={"a": {"data": more["data"]}}) for more in own]
    together(lambda rank: agree(clusters[rank], configs[rank], resume=False), 2)
    assert len(clusters[0].said) == 1


class Breaks(declora.Part):
    """Some clients leave the finite numbers in a round."""

    name = "breaks"

    def __init__(self, clients, event):
        self.broken, self.event = clients, event

    def before_round(self, state, plan):
        for row in np.flatnonzero(np.isin(state.clients, self.broken)) if plan.event == self.event else ():
            state.adapter[row] = math.nan


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"method": Breaks([1, 2], 1)}, r"loss of client [12] is nan in round 2 \("),
        ({"method": [Breaks([2], 1), "local"]}, r"loss of client 2 is nan in round 2 \("),
        ({"method": Breaks([0], 1), "overlap": True}, r"loss of client 0 is nan in round 2 \("),
        ({"attack": "crafted", "attackers": [2], "codec": "none"}, r"loss of client [01] is .* attack='crafted'"),
    ],
)
def test_where_the_run_cannot_go_on_at_one_rank_it_ends_at_all_with_what_is_wrong_with_whom(more, said):
    more = {"clients": 3, "checkpoint_every": None, "rounds": 4, **more}
    _, left = run_ranks(3, falling=TrainingError, **settings(**more))
    assert all(isinstance(error, TrainingError) for error in left)
    assert len({str(error) for error in left}) == 1
    assert re.match(said, str(left[0]))


def test_over_gloo_all_hear_in_seconds_what_ended_the_run_and_no_other_begins_with_these_links():
    store, said, clusters = torch.distributed.HashStore(), [], [None] * 3

    def work(rank):
        cluster = clusters[rank] = Cluster(rank, 3, store)
        cluster.connect({(1, 2)}, patience=30.0)
        try:
            with cluster.telling():
                if rank == 1:
                    raise CodecError("client 1 has no numbers left")
                assert cluster.hear(1, Kind.FRAMES, 0) is None
        except DecloraError as error:
            said.append((type(error), str(error)))
        with pytest.raises(ConfigError, match="did not begin the run: the run could not go on there"):
            cluster.share(None)

    start = time.monotonic()
    together(work, 3)
    together(lambda rank: clusters[rank].end(), 3)
    assert time.monotonic() - start < 15
    kinds = [(kind, "client 1 has no numbers left") for kind in (TrainingError, TrainingError, CodecError)]
    assert sorted(said, key=str) == sorted(kinds, key=str)


def test_a_rank_that_ends_before_all_are_linked_is_an_error_in_a_line(monkeypatch):
    def broken(*group):
        raise RuntimeError("Connection reset by peer\nC++ CapturedTraceback: ...")

    monkeypatch.setattr("declora.cluster.cluster.ProcessGroupGloo", broken)
    with pytest.raises(ConfigError, match=r"^ranks 0 and 1 cannot be linked \(Connection reset by peer"):
        Cluster(0, 2, torch.distributed.HashStore()).connect((), patience=1.0)


def test_messages_of_clients_that_are_elsewhere_change_nothing_of_theirs():
    routes = SpreadExchange(
        MemoryCluster(1, 3), divide(6, 3, group_size=1), Topology.build("ring", 6).graphs, LocalExchange()
    ).routes
    assert routes.known.tolist() == [1, 2, 3, 4]
    square = routes.weights(Topology.build("ring", 6).weights(0))
    expected = sp.csr_array(Topology.build("ring", 6).weights(0)).toarray()[np.ix_([1, 2, 3, 4], [1, 2, 3, 4])]
    expected[[0, 3]] = np.eye(4)[[0, 3]]
    assert np.array_equal(square.toarray(), expected)
    assert Site.whole(6).alone


def test_processes_give_the_bits_of_one_and_go_on_without_those_that_are_killed_or_stopped_until_they_come_back(
    tmp_path,
):
    script = Path(__file__).with_name("forked_ranks.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=360)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    lost = found["lost"]
    assert lost["seen"] == found["alone"]["seen"] != ""
    assert lost["exits"] == [0, 0, -9, None], done.stderr[-4000:]  # None: still stopped when the others had ended
    assert lost["rounds"] == 8
    # What a rank says of a round may be under way when it dies in the next.
    assert lost["clients_lost"][:3] == [None] * 3
    assert lost["clients_lost"][4:] == [1, 2, 2, 2] or lost["clients_lost"][4:] == [1, 1, 2, 2]
    assert re.search("Rank 2 with clients 2 to 2 was lost in round [45]: its connection was closed", lost["notes"])
    assert re.search("Rank 3 with clients 3 to 3 was lost in round [67]: it was silent for 3 s", lost["notes"])
    back = found["back"]
    assert back["exits"] == [0, 0], done.stderr[-4000:]
    assert (
        "Rank 1 with clients 1 to 1 came back in round 5 with what" in back["notes"]
    )  # before whose messages rank 0 waits
    assert back["clients_lost"] in ([None, 1, 1, 1, *[None] * 4], [None, None, 1, 1, *[None] * 4])


@pytest.mark.parametrize(
    ("size", "arguments", "why"),
    [
        ("2", ["methods"], "only `declora simulate` and `declora resume` run over several ranks"),
        ("two", ["methods"], "WORLD_SIZE='two' must be the number of ranks"),
        ("2", ["simulate"], "the other ranks cannot be reached"),
    ],
)
def test_what_was_started_wrongly_ends_in_a_line(size, arguments, why, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", size)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert main(arguments) == 1
    assert why in capsys.readouterr().err


def test_before_the_end_calls_of_threads_into_torch_are_waited_for_and_none_begins():
    guard, inside, go, after = Guard(), threading.Event(), threading.Event(), threading.Event()

    def call(entered, until):
        with guard.call():
            entered.set()
            until.wait(30)

    caller = threading.Thread(target=call, args=(inside, go), daemon=True)
    caller.start()
    assert inside.wait(30)
    closing = threading.Thread(target=guard.close, args=(30,))
    closing.start()
    closing.join(0.1)
    assert closing.is_alive()
    threading.Thread(target=call, args=(after, go), daemon=True).start()
    go.set()
    closing.join(30)
    assert not closing.is_alive()
    assert not after.wait(0.1)


def test_a_call_that_does_not_return_is_not_waited_for_longer_than_one_is_patient():
    guard, inside, go = Guard(), threading.Event(), threading.Event()

    def call():
        with guard.call():
            inside.set()
            go.wait(30)

    caller = threading.Thread(target=call, daemon=True)
    caller.start()
    assert inside.wait(30)
    guard.close(0.01)
    assert caller.is_alive()
    go.set()
    caller.join(30)


def test_nobody_knocks_at_a_store_whose_process_ends():
    asked, go = threading.Event(), threading.Event()

    class Slow:
        """A store that answers late."""

        def check(self, keys):
            asked.set()
            go.wait(30)
            return False

    cluster = Cluster(0, 2, Slow())
    cluster.patience = 30.0
    cluster.begin(0, lambda rank, link: True, 3)
    assert asked.wait(30)
    ending = threading.Thread(target=cluster.end)
    ending.start()
    ending.join(0.1)
    assert ending.is_alive()
    go.set()
    ending.join(30)
    assert not ending.is_alive()
