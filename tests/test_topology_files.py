"""Graphs from files, lists and functions, and the names that a graph gives clients."""

import json

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import declora
from declora import cli
from declora.config import SimulationConfig
from declora.errors import ConfigError, TopologyError
from declora.experiments.contents import Contents
from declora.experiments.plan import files_of
from declora.prepare import plan_federation
from declora.topology import Topology
from declora.topology.files import load_matrix
from graphs import edges

CITIES = ("zurich", "bern", "genf")
LINE = [(0, 1), (1, 0), (1, 2), (2, 1)]
"""The edges of a path of three."""
HALF = np.array([[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "text",
    [
        "source,target\nzurich,bern\nbern,genf\n",
        "\ufeffSource;Target;Type\r\nzurich;bern;x\r\n\r\n bern ; genf ;x\r\n",
        'target\tsource\n"bern"\t"zurich"\ngenf\tbern\n',
        ",zurich,bern,genf\nzurich,0.5,0.5,0\nbern,.5,0,.5\ngenf,0,5e-1,0.5\n",
    ],
)
def test_a_csv_file_has_edges_or_a_matrix_and_the_names_of_clients(text, here):
    (here / "swiss.csv").write_text(text, encoding="utf-8", newline="")
    topology = Topology.build("swiss.csv", 3)
    assert (topology.name, topology.nodes, topology.names) == ("swiss.csv", CITIES, CITIES)
    assert edges(topology) == LINE
    assert "0 is 'zurich', 1 is 'bern', 2 is 'genf'" in topology.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        '\n"source";"target";"weight, km"\n"Smith, A";b;1\nb;c;2\n',
        'source, target\n"Smith, A", b\nb, "c"\n',
        ';"Smith, A";b;c\n"Smith, A";0.5;0.5;0\nb;0.5;0;0.5\nc;0;0.5;0.5\n',
    ],
)
def test_what_is_in_quotes_divides_no_fields(text, here):
    (here / "quoted.csv").write_text(text)
    topology = Topology.build("quoted.csv", 3)
    assert topology.names == ("Smith, A", "b", "c")
    assert edges(topology) == LINE


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_bare_matrix_has_commas_semicolons_or_tabs(mark, here):
    np.savetxt("bare.csv", HALF, delimiter=mark)
    comment = "# rows; columns, and so on\n"
    (here / "clock.txt").write_text(comment + (here / "bare.csv").read_text())
    np.testing.assert_array_equal(load_matrix("clock.txt").toarray(), HALF)
    np.testing.assert_array_equal(Topology.build("bare.csv", 3).weights(0).toarray(), HALF)


def test_a_file_may_be_named_by_a_path(tiny_run, here):
    (here / "swiss.csv").write_text("source,target\nzurich,bern\nbern,genf\n")
    assert Topology.build(here / "swiss.csv", 3).names == CITIES
    assert SimulationConfig(topology=here / "swiss.csv").topology == str(here / "swiss.csv")
    with pytest.raises(TopologyError, match="is not known"):
        SimulationConfig(topology=here / "swiss.txt")


def test_clients_whose_names_are_alike_or_blank_are_not_called_by_them():
    with pytest.raises(TopologyError, match="nodes '3' and 3 are both called '3'; give each client a name of its own"):
        Topology.build(nx.Graph([("a", "3"), ("a", 3)]), 3)
    for labels in (("x", " ", ""), ("x", "y", " y")):
        graph = nx.path_graph(3)
        nx.set_node_attributes(graph, dict(enumerate(labels)), "label")
        nx.write_graphml(graph, "labels.graphml")
        assert Topology.build("labels.graphml", 3).names is None


def test_edges_by_number_join_the_clients_of_these_numbers(here):
    (here / "line.csv").write_text("source,target,weight\n2,1,0.1\n1,0,0.9\n")
    topology = Topology.build("line.csv", 3)
    assert edges(topology) == LINE
    assert topology.names is None
    assert topology.notes[0].startswith("The edge weights of the graph are not used")


def test_a_matrix_by_numbers_has_them_in_rising_order(here):
    (here / "w.csv").write_text("client,2,0,1\n2,.5,0,.5\n0,0,.5,.5\n1,.5,.5,0\n")
    topology = Topology.build("w.csv", 3)
    assert (topology.names, topology.notes) == (None, ())
    np.testing.assert_array_equal(topology.weights(0).toarray(), [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


@pytest.mark.parametrize("attribute", [None, "label", "name"])
def test_graphml_has_a_graph_whose_nodes_may_have_labels(attribute):
    graph = nx.path_graph(CITIES)
    if attribute is not None:
        graph = nx.relabel_nodes(graph, {city: f"n{i}" for i, city in enumerate(CITIES)})
        nx.set_node_attributes(graph, dict(zip(graph, CITIES, strict=True)), attribute)
    nx.write_graphml(graph, "swiss.graphml")
    topology = Topology.build("swiss.graphml", 3)
    assert topology.names == CITIES
    assert edges(topology) == LINE
    nx.write_graphml(nx.DiGraph([(0, 1), (1, 2), (2, 0)]), "round.graphml")
    assert edges(Topology.build("round.graphml", 3)) == [(0, 1), (1, 2), (2, 0)]


def test_matrices_are_read_as_they_are():
    np.savetxt("w.csv", HALF, delimiter=",")
    np.save("w.npy", HALF)
    sp.save_npz("w.npz", sp.csr_array(HALF))
    for name in ("w.csv", "w.npy", "w.npz"):
        topology = Topology.build(name, 3)
        assert (topology.name, topology.names, topology.rule) == (name, None, None)
        np.testing.assert_array_equal(topology.weights(0).toarray(), HALF)
        with pytest.raises(TopologyError, match=f"weights='uniform' has no effect on topology='{name}'"):
            Topology.build(name, 3, weights="uniform")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("g.csv", "", "topology='g.csv' is empty"),
        ("g.csv", "source,target\n", "topology='g.csv' has no edges. Give one a line"),
        ("g.csv", "source,target\na,b\nb\n", "topology='g.csv', line 3: 'b' is no edge"),
        ("g.csv", "source,target\n\na,\n", "topology='g.csv', line 3: 'a,' is no edge"),
        ("g.csv", "a,b\nb,c\n", "line 2: 'b,c' is not what line 1 asks for.*Begin the file with source,target"),
        ("g.csv", ",a,a\na,1,0\na,0,1\n", "line 1 has 'a' twice"),
        ("g.csv", ",a,b\na,0.5,0.5\nb,0.5,x\n", "line 3: 'b,0.5,x' is not what line 1 asks for, 'b' and 2 numbers"),
        ("g.csv", ",a,b\na,0.5,0.5\n", "names 2 clients in line 1, but has lines for 1. Add that of 'b'"),
        ("g.csv", "x\n", "names no clients in line 1. Begin the file with source,target"),
        ("g.csv", ",a,b\na,1,0\nb,0,1\nc,0,0\n", "line 4: .*no more lines"),
        ("g.csv", ",a,b,c\na,1,0,0\nb,0,1,0\n", "names 3 clients in line 1, but has lines for 2. Add that of 'c'"),
        ("g.csv", ",a,,c\na,1,0,0\n,0,1,0\nc,0,0,1\n", "line 1 has an empty name"),
        ("g.csv", "Source,Target,Type\na,b,Undirected\nb,c,Directed\n", "line 3 is a directed edge.*.graphml"),
        ("g.csv", "0.5,0.5\n0.5\n", "topology='g.csv' cannot be read: .*Give a .csv, .graphml, .npy or .npz file"),
        ("g.csv", "1,0,0\n0,1,0\n0,0,1\n", "topology='g.csv': not connected"),
        ("g.csv", 'source,target\n"a,b\n', "topology='g.csv' cannot be read"),
        ("g.graphml", "<graphml", "topology='g.graphml' cannot be read"),
        ("g.graphml", "<html/>", "topology='g.graphml' cannot be read"),
        ("g.npy", "x", "topology='g.npy' cannot be read"),
        ("g.npz", "x", "topology='g.npz' cannot be read"),
        ("g.csv", "source,target\na,b\n", "topology='g.csv' has 2 nodes, but clients=3; .*set clients=2"),
    ],
)
def test_what_is_no_graph_in_a_file_is_named_with_its_line(name, text, message, here):
    (here / name).write_text(text)
    with pytest.raises(TopologyError, match=message):
        Topology.build(name, 3)


def test_a_file_that_is_not_there_is_said_before_anything_is_loaded(monkeypatch, capsys):
    monkeypatch.setattr("declora.simulation.run_all", lambda config: pytest.fail("something was loaded"))
    with pytest.raises(ConfigError, match=r"^topology='swiss.csv' is not there"):
        declora.simulate(topology="swiss.csv")
    assert cli.main(["topology", "swiss.csv"]) == 1
    assert "topology='swiss.csv' cannot be read" in capsys.readouterr().err
    with pytest.raises(TopologyError, match="is not known"):
        SimulationConfig(topology="swiss.gml")


def test_a_run_remembers_where_the_file_is_and_a_grid_what_is_in_it(here):
    (here / "a.csv").write_text("source,target\n0,1\n")
    (here / "b.csv").write_text("source,target\n1,0\n")
    one, two = SimulationConfig(topology="a.csv"), SimulationConfig(topology="b.csv")
    assert one.describe()["topology"] == str(here / "a.csv")
    assert files_of(one, Contents())["topology"] != files_of(two, Contents())["topology"]
    assert "topology" not in files_of(SimulationConfig(), Contents())


def test_names_are_in_metrics_tables_and_reports_and_lead_to_a_client(tiny_run, here):
    (here / "swiss.csv").write_text("source,target\nzurich,bern\nbern,genf\n")
    result = tiny_run(topology="swiss.csv", clients=3, rounds=1, client_eval_samples=4, out="run")
    served, _ = plan_federation(SimulationConfig(topology="swiss.csv", clients=3, method="fedavg"))
    assert served.topology.names == CITIES
    (line,) = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(own["client"], own["name"]) for own in line["clients"]] == list(enumerate(CITIES))
    assert result.clients["name"].tolist() == list(CITIES)
    for file in ("clients.csv", "samples-by-client-and-label.csv"):
        table = pd.read_csv(here / "run" / file)
        assert table.columns[:2].tolist() == ["client", "name"]
        assert table["name"].tolist() == list(CITIES)
    assert "zurich, bern, genf" in (here / "run" / "report.html").read_text()
    assert torch.equal(result.client("bern").row, result.client(1).row)
    with pytest.raises(ConfigError, match=r"^client='berm' is not known. Did you mean 'bern'"):
        result.client("berm")


# Graphs that change


def test_a_list_of_graphs_or_of_matrices_is_one_a_round():
    swap = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
    for spec in ([swap, HALF], [sp.csr_array(swap), sp.csr_array(HALF)], (swap.tolist(), HALF.tolist())):
        topology = Topology.build(spec, 3)
        assert (topology.name, topology.period, topology.rule) == ("list of 2", 2, None)
        np.testing.assert_array_equal(topology.weights(2).toarray(), swap)
        np.testing.assert_array_equal(topology.weights(1).toarray(), HALF)
    weighed = Topology.build([nx.Graph([(0, 1)]), nx.path_graph(3)], 3)
    assert (weighed.rule, weighed.edges(0).tolist()) == ("metropolis", [[0, 1], [1, 0]])
    one_way = [np.roll(np.eye(3), 1, 1) / 2 + np.eye(3) / 2, HALF]
    assert Topology.build(one_way, 3, directed=True).directed
    described = SimulationConfig(topology=[swap, HALF]).describe()["topology"]
    assert Topology.build(described, 3).period == 2  # as config.json gives it back
    np.testing.assert_array_equal(Topology.build(HALF.tolist(), 3).weights(0).toarray(), HALF)
    with pytest.raises(TopologyError, match="'list of 2, matrix 1' is for 2 clients, but clients=3"):
        Topology.build([swap, np.eye(2)], 3)
    with pytest.raises(TopologyError, match=r"has None, which is no graph or matrix as others in the list"):
        Topology.build([nx.path_graph(3), None], 3)


def test_a_function_gives_a_graph_for_each_round_of_a_run(tiny_run):
    def pairs(t, clients, rng):
        return nx.Graph([(t, (t + 1) % clients)])

    topology = tiny_run(topology=pairs).federation.topology
    assert (topology.name, topology.period) == ("pairs", 3)
    assert [topology.edges(t).tolist()[0] for t in range(3)] == [[0, 1], [1, 2], [2, 3]]
    assert SimulationConfig(topology=pairs).describe()["topology"] == "<pairs>"
    with pytest.raises(TopologyError, match=r"^topology='pairs' is a function.*Set pairs\.period = "):
        Topology.build(pairs, 4)
    pairs.period = 4
    assert Topology.build(pairs, 4).period == 4

    class Mine(declora.GraphSchedule):
        graph = staticmethod(pairs)

    with pytest.raises(TopologyError, match=r"^topology=Mine is a class. Give an object of it, Mine\(...\)"):
        tiny_run(topology=Mine)
