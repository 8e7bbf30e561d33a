"""Data that stays where its client is: the bits of one process, what ranks tell each other, and what fails."""

import csv
import json

import datasets
import numpy as np
import pytest
import torch
from torch.distributed import HashStore

import declora
from clusters import Falls, MemoryCluster, memory_clusters, run_hosts, together
from declora import ConfigError, DataError, SimulationConfig
from declora.cli.notes import next_steps
from declora.cluster import Cluster, divide, hosts
from declora.data import load
from declora.data.client_files import ClientFiles, client_files, names_files
from declora.data.partitions import kept_apart
from declora.hosts import Host
from declora.ranks import Beginning, Ranks
from declora.settings import shareable
from declora.simulation import configs_of, ready
from declora.topology import Topology
from federations import federation_of
from tiny import tiny_bert, tiny_gpt2, tiny_texts, tiny_tokenizer

NAMES = (("bad", "good"), ("good", "bad"), ("bad", "so-so"), ("so-so", "so-so"))
"""Labels that clients have: none has all, and one has a single one."""
SECRET = "zqsecretzq"
"""A word of every row."""
SETTINGS = {
    "model": tiny_bert(labels=3, width=16), "tokenizer": tiny_tokenizer(), "clients": 4, "rounds": 2, "group_size": 1,
    "lora": {"r": 2, "target_modules": ["query"]}, "eval_every": 1, "client_eval_samples": 4, "max_length": 16,
    "batch_size": 4, "local_epochs": 1, "codec": "q4+choco", "weights": "samples", "topology": "complete",
    "progress": False,
}  # fmt: skip


def rows_of(client, count=None):
    """Rows of a client, each with the word that must not travel."""
    texts = tiny_texts(count or 8 + 3 * client, seed=client)["text"][:]
    names = NAMES[client]
    return [(f"{text} {SECRET}{client}", names[i % 2]) for i, text in enumerate(texts)]


def write(path, rows, columns=("text", "label")):
    """Writes a csv file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


@pytest.fixture
def places(tmp_path):
    """Folders of one process and of two hosts, each with the files of its own clients, and a file of all."""
    for client in range(4):
        for folder in ("one", f"host{client // 2}"):
            write(tmp_path / folder / str(client) / "train.csv", rows_of(client))
    evaluation = [(text, ("bad", "good", "so-so")[i % 3]) for i, text in enumerate(tiny_texts(9, seed=9)["text"][:])]
    write(tmp_path / "all.csv", evaluation)
    return tmp_path


def settings(places, folder, **more):
    """Of a run whose clients' files are in a folder."""
    return {**SETTINGS, "data": f"{places / folder}/{{client}}/train.csv", "eval_data": str(places / "all.csv"), **more}


def alone(**more):
    """The run in one process."""
    (run,) = ready(configs_of(SimulationConfig(**more))).values()
    return run, run.execute()


def listening(clusters):
    """Keeps what goes over any link."""
    said = []
    for cluster in clusters:
        for link in cluster.links.values():

            def send(kind, number, content=b"", link=link, usual=link.send):
                said.append(content if isinstance(content, bytes) else content.tobytes())
                usual(kind, number, content)

            link.send = send
    return said


def same(left, whole):
    """Checks that ranks left what one process leaves, bit for bit."""
    assert torch.equal(left[0].rows, whole.rows)
    assert torch.equal(left[0].mean, whole.mean)
    for name in ("train_loss", "eval_loss", "eval_accuracy", "bytes_sent", "samples_seen", "consensus_distance"):
        if name in whole.history:
            assert left[0].history[name].tolist() == whole.history[name].tolist(), name


def test_hosts_that_have_their_clients_files_alone_give_the_bits_of_one_process_and_no_text_travels(places):
    _, whole = alone(**settings(places, "one"))
    clusters = memory_clusters(2)
    said = listening(clusters)
    left, raised = run_hosts([settings(places, f"host{rank}") for rank in range(2)], clusters)
    assert raised == [None, None]
    same(left, whole)
    assert any(b'"so-so"' in content for content in said)  # labels do
    assert not any(SECRET.encode() in content for content in said)
    assert left[0].local_steps.tolist() == whole.local_steps.tolist() == [2, 3, 4, 5]
    assert left[0].lineage.text.name == whole.lineage.text.name == "4 data sets"  # which cards of adapters say
    assert left[0].split_bytes is None
    assert any("Classes found in column 'label': ['bad', 'good', 'so-so']" in note for note in left[0].notes)


def test_packed_texts_of_hosts_give_the_bits_of_one_process(tmp_path):
    for client in range(4):
        rows = [(text,) for text in tiny_texts(6 + 5 * client, seed=client)["text"][:]]
        for folder in ("one", f"host{client // 2}"):
            write(tmp_path / folder / f"{client:02}.csv", rows, ["text"])
    write(tmp_path / "all.csv", [(text,) for text in tiny_texts(6, seed=9)["text"][:]], ["text"])
    more = {
        "model": tiny_gpt2(width=16), "packing": True, "batch_size": 2, "eval_data": str(tmp_path / "all.csv"),
        "lora": {"r": 2, "target_modules": ["c_attn"]}, "task": "causal-lm",
    }  # fmt: skip
    own = [
        {**SETTINGS, **more, "data": f"{tmp_path / folder}/{{client:02}}.csv"} for folder in ("one", "host0", "host1")
    ]
    _, whole = alone(**own[0])
    left, raised = run_hosts(own[1:])
    assert raised == [None, None]
    same(left, whole)
    assert len(set(whole.local_steps.tolist())) > 1


def test_classes_that_one_host_declares_are_those_of_all(places):
    for client in (0, 1):
        texts, labels = zip(*rows_of(client), strict=True)
        features = datasets.Features(
            {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["so-so", "good", "bad"])}
        )
        rows = datasets.Dataset.from_dict({"text": list(texts), "label": list(labels)}, features=features)
        for folder in ("one", "host0"):
            (places / folder / str(client) / "train.csv").unlink()
            rows.to_parquet(places / folder / str(client) / "train.parquet")
    for client in (2, 3):
        for folder in ("one", "host1"):
            path = places / folder / str(client) / "train.csv"
            datasets.Dataset.from_dict(
                dict(zip(("text", "label"), zip(*rows_of(client), strict=True), strict=True))
            ).to_parquet(path.with_suffix(".parquet"))
    own = [
        settings(places, folder, data=f"{places / folder}/{{client}}/train.parquet")
        for folder in ("one", "host0", "host1")
    ]
    _, whole = alone(**own[0])
    left, raised = run_hosts(own[1:])
    assert raised == [None, None]
    same(left, whole)


def ended(raised):
    """What ranks said as they ended: an error of declora's own each, in a line."""
    assert all(isinstance(error, declora.DecloraError) for error in raised), raised
    assert not any("\n" in str(error) for error in raised)
    return [str(error) for error in raised]


def test_a_file_that_is_missing_ends_all_ranks_with_its_client_and_path(places):
    (places / "host1" / "3" / "train.csv").unlink()
    said = ended(run_hosts([settings(places, f"host{rank}") for rank in range(2)])[1])
    path = f"{places / 'host1'}/3/train.csv"
    assert said[0].startswith(f"The data of client 3, '{path}', is not there: rank 1 (")
    assert said[1].startswith(f"client 3: File {path} does not exist.")


@pytest.mark.parametrize(
    ("rows", "own"),
    [
        ([("", "bad")], "the text in column 'text' of row 0"),
        ([("x", ""), ("y", "bad")], "the label in column 'label' of row 0"),
        ([], "has no rows"),
        ([(f"{SECRET} {i}", f"{SECRET} label {i}") for i in range(30)], "look like texts to learn, not like classes"),
        ([(f"{SECRET} {i}", f"{SECRET} label {i}") for i in range(2)], "Other hosts would be told each of them"),
    ],
)
def test_a_file_that_is_broken_ends_all_ranks_and_others_see_nothing_of_it(places, rows, own):
    write(places / "host0" / "1" / "train.csv", rows)
    clusters = memory_clusters(2)
    heard = listening(clusters)
    said = ended(run_hosts([settings(places, f"host{rank}") for rank in range(2)], clusters)[1])
    assert own in said[0]
    assert "client 1" in said[0]
    assert said[1].startswith(f"The data of client 1, '{places / 'host0'}/1/train.csv', cannot be used: rank 0 (")
    assert not any(SECRET.encode() in content for content in heard)


def test_ranks_that_fail_where_no_file_is_to_blame_are_named(places):
    own = [settings(places, f"host{rank}") for rank in range(2)]
    own[1]["max_length"] = 2  # no room for a token
    said = ended(run_hosts(own)[1])
    assert said[0].startswith("rank 1 (")
    assert "with clients 2 to 3 could not begin (ConfigError)" in said[0]
    assert said[1].startswith("max_length=2")


def test_evaluation_data_and_settings_of_data_must_be_the_same(places):
    write(places / "other.csv", [("w1 w2", "bad"), ("w3", "good")])
    own = [settings(places, f"host{rank}") for rank in range(2)]
    own[1]["eval_data"] = str(places / "other.csv")
    said = ended(run_hosts(own)[1])
    assert said[0] == said[1]
    assert said[0].startswith("the evaluation data: ")
    own = [settings(places, "host0"), settings(places, "host1", max_length=12)]
    said = ended(run_hosts(own)[1])
    assert said[0] == said[1]
    assert said[0].startswith("max_length: 16 at rank 0, but 12 at rank 1.")


@pytest.mark.parametrize("apart", [0, 1])
def test_a_file_of_each_client_at_one_rank_and_data_of_all_at_another_is_said_at_both(apart):
    clusters, raised = memory_clusters(2), [None, None]

    def begin(rank):
        try:
            if rank == apart:
                config = SimulationConfig(data="{client}.csv", eval_data="x.csv", clients=2)
                Host(clusters[rank], client_files(config.data, 2), config).tell(None)
            else:
                Cluster.least(clusters[rank], 1)
        except ConfigError as error:
            raised[rank] = error

    together(begin, 2)
    said = ended(raised)
    assert said[0] == said[1]
    assert said[0].startswith(
        f"data names a file of each client at rank {apart}, but data for all clients at rank {1 - apart}. Set it to "
    )


def test_what_needs_all_data_in_one_place_is_refused(places):
    said = ended(
        run_hosts([settings(places, f"host{rank}", method="centralized", weights=None) for rank in range(2)])[1]
    )
    assert said[0] == said[1]
    assert "has one client. Run it in one process" in said[0]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"partition": "iid"}, "names a file of each client, which partition='iid' would divide anew"),
        ({"data": "all.csv", "eval_data": "{client}/v.csv"}, "names a file of each client, which data does not"),
        ({"eval_data": "{clients}/v.csv"}, r"^eval_data='\{clients\}/v.csv' has \{clients\}, which stands for nothing"),
        ({"eval_data": {"a": "a.csv", "b": "b.csv"}}, "eval_data names files of 2 clients, but clients=4."),
        (
            {"clients": 2, "data": {"a": "a.csv", "b": "b.csv"}, "eval_data": {"b": "b.csv", "a": "a.csv"}},
            "names other clients than data, or in another order: 'a' is not in its place",
        ),
        ({"data": "{clients}/train.csv"}, r"^data='\{clients\}/train.csv' has \{clients\}, which stands for nothing"),
        (
            {"data": "{client}/{Client:>3}.csv"},
            r"has \{Client:>3\}, which stands for nothing. Write .* \{client:03\} for",
        ),
        ({"data": {"a": "a.csv", "b": "b.csv"}}, "data names files of 2 clients, but clients=4. Set clients=2."),
    ],
)
def test_settings_that_do_not_go_with_files_of_clients_are_refused(more, why):
    with pytest.raises(ConfigError, match=why):
        SimulationConfig(**{"data": "{client}/train.csv", "eval_data": "all.csv", "clients": 4, **more})


def test_files_are_named_by_number_or_by_a_table_in_its_order(tmp_path):
    assert client_files("sst2={client}/{client:03}.tsv", 2).places == ("sst2=0/000.tsv", "sst2=1/001.tsv")
    table = {"north": tmp_path / "a.csv", "south": "b.csv"}
    assert client_files(table, 2) == ClientFiles((f"{tmp_path}/a.csv", "b.csv"), ("north", "south"))
    for data in (
        "{clients}.csv",
        "train.csv",
        {"train": "a.csv", "validation": "b.csv"},
        {"only": "a.csv"},
        ["a", "b"],
    ):
        assert not names_files(data)
    assert names_files({"valencia": "a.csv", "devon": "b.csv"})
    assert not names_files({"training": "a.csv", "test-1": "b.csv"})
    own = client_files(table, 2).of(slice(1, 2))
    assert (own.who(1), own.place(1)) == ("client 1 ('south')", "b.csv")
    base = SimulationConfig(data=table, eval_data="x.csv", clients=2)
    turned = base.override(data=dict(reversed(table.items())))
    assert shareable(base, base.override(rounds=3))
    assert not shareable(base, turned)
    assert base.override(data="{client}.csv").describe()["data"] == "{client}.csv"
    assert list(json.loads(json.dumps(base.describe()))["data"]) == ["north", "south"]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "saved"])
def test_files_of_clients_are_read_as_a_list_of_them(kind, tmp_path):
    for client in range(2):
        rows = datasets.Dataset.from_dict({"text": ["a b", "c"], "label": [client, 1 - client]})
        path = tmp_path / f"{client}.{kind}"
        writers = {"csv": rows.to_csv, "jsonl": rows.to_json, "parquet": rows.to_parquet, "saved": rows.save_to_disk}
        writers[kind](path)
    evaluation = datasets.Dataset.from_dict({"text": ["d"], "label": [0]})
    own = load(client_files(f"{tmp_path}/{{client}}.{kind}", 2), eval_data=evaluation)
    listed = load([str(tmp_path / f"{client}.{kind}") for client in range(2)], eval_data=evaluation)
    assert own.train.to_dict() == listed.train.to_dict()
    assert [shard.tolist() for shard in own.shards] == [[0, 1], [2, 3]]
    with pytest.raises(DataError, match=r"^client 2: File .*2\.\w+ does not exist"):
        load(client_files(f"{tmp_path}/{{client}}.{kind}", 3), eval_data=evaluation)


def test_ranks_have_the_same_clients_before_anything_is_computed_as_after():
    assert [(site.start, site.stop) for site in hosts(11, 3, group_size=None)] == [(0, 3), (3, 6), (6, 11)]
    assert hosts(12, 3, group_size=2) == divide(12, 3, group_size=2)


def test_a_run_whose_data_is_on_other_hosts_is_not_said_to_be_compared_with_pooled_data():
    assert "centralized" in next_steps("runs/a", several=False)
    assert "centralized" not in (said := next_steps("runs/a", several=False, apart=True))
    assert said == next_steps("runs/a", several=False).partition("\nBeside:")[0]


@pytest.mark.parametrize("other", [False, True])
def test_a_host_that_was_lost_comes_back_with_the_data_that_it_had_and_no_other(other, places):
    for client in (2, 3):
        write(places / "other" / str(client) / "train.csv", rows_of(client, 30))
    clusters = memory_clusters(2, HashStore())
    more = {"rounds": 4, "method": Falls(clusters, waits=None if other else 2)}
    own = [settings(places, f"host{rank}", **more) for rank in range(2)]
    back = settings(places, "other" if other else "host1", **more)
    with pytest.warns(UserWarning, match="was lost in round 2"):
        left, raised = run_hosts(own, clusters, again={1: back})
    assert raised[0] is None
    assert left[0].history["clients_lost"].fillna(0).tolist() == ([0, 2, 2, 2] if other else [0, 2, 0, 0])
    if other:
        assert str(raised[1]).startswith("rank 1 has other data than when the run began.")
    else:
        assert raised[1] is None
        assert torch.equal(left[0].rows[2:], left[1].rows)


def test_groups_of_clients_are_as_large_as_the_hosts_let_them_be():
    sites = hosts(12, 3, group_size=None)
    federation = federation_of(Topology.build("ring", 12), clients=12)
    ranks = Ranks(MemoryCluster(0, 3), federation, 3, chosen=False, patience=1.0, rounds=1, sites=sites)
    assert (ranks.group_size, ranks.site) == (2, sites[0])  # of 3, one would begin at one host and end at the next
    ranks.group_size = 3  # as another number of ranks may have begun it
    with pytest.raises(ConfigError, match="group_size=3: client 4, the first of a rank, is not the first of a group"):
        ranks.begin(Beginning("00" * 16), dict)


def test_rows_on_other_hosts_have_a_number_and_no_index():
    partition = kept_apart([np.arange(2)], [3, 2], first=1)
    assert [len(shard) for shard in partition.shards] == [3, 2]
    assert partition.counts["total"].tolist() == [3, 2]
    with pytest.raises(IndexError):
        _ = np.arange(10)[partition.shards[0]]
