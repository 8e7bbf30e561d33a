"""Lazy clients send copies, and those who look for copies find them and nobody else."""

import numpy as np
import pytest
import scipy.sparse as sp

from conftest import tiny_texts
from declora.detection import CopyDetector, parse_detector
from declora.errors import ConfigError
from federations import federation_of, gossip_of, rows_of

CLIENTS, COLUMNS = 8, 40


@pytest.mark.parametrize("noise", [0, 0.01])
def test_a_lazy_client_sends_what_an_honest_neighbour_sent_in_the_round_before(noise):
    federation = federation_of("complete", clients=CLIENTS, attack=f"lazy:noise={noise}", attackers=[2, 5])
    gossip, rows = gossip_of(federation, rows_of(CLIENTS, COLUMNS)), rows_of(CLIENTS, COLUMNS, seed=1)
    before = gossip.round(0, rows).public().copy()
    rows += rows_of(CLIENTS, COLUMNS, seed=2)
    now = gossip.round(1, rows).public()
    for client in (2, 5):
        distances = np.abs(now[client] - before).max(axis=1)
        nearest = int(np.argmin(distances))
        assert nearest not in (2, 5)
        assert distances[nearest] <= 5 * noise  # 80 normal numbers
    if noise:
        added = np.array([now[client] - before[np.abs(now[client] - before).max(axis=1).argmin()] for client in (2, 5)])
        # 80 normals of 0.01: a deviation within 4 * 0.01 / sqrt(160).
        assert added.std() == pytest.approx(noise, abs=0.0032)


def test_in_the_first_round_nobody_has_heard_anything_to_copy():
    federation = federation_of("complete", clients=CLIENTS, attack="lazy", attackers=[2])
    gossip, rows = gossip_of(federation, rows_of(CLIENTS, COLUMNS)), rows_of(CLIENTS, COLUMNS, seed=1)
    own = rows[2].clone().numpy()
    np.testing.assert_array_equal(gossip.round(0, rows).public()[2], own)


def test_a_copy_is_suspected_by_whom_it_was_copied_from_up_to_the_bound():
    weights, room = sp.csr_array(np.full((3, 3), 1 / 3)), {}
    detector = CopyDetector(below=0.5)
    first = np.zeros((3, 4), dtype=np.float32)
    assert detector.suspected(weights, first, room).tolist() == [0, 0, 0]
    # Client 0 has moved by 2, so it suspects who is nearer than 1 to where it was.
    moved = np.array([[2, 0, 0, 0], [0.9, 0, 0, 0], [0, 1.1, 0, 0]], dtype=np.float32)
    assert detector.suspected(weights, moved, room).tolist() == [0, 1, 0]


def test_exact_copies_are_all_found_and_nobody_honest_is_suspected(tiny_run):
    shards = [tiny_texts(24, seed=client).to_list() for client in range(6)]
    result = tiny_run(
        data=shards, eval_data=tiny_texts(8, seed=9).to_list(), clients=6, rounds=6, topology="complete",
        attack="lazy", attackers=[1, 4], detect="lazy",
    )  # fmt: skip
    rounds = result.clients[result.clients["round"] > 1]  # there was nothing to copy before
    lazy = rounds["client"].isin([1, 4])
    assert (rounds.loc[lazy, "suspected_by"] > 0).all()
    assert (rounds.loc[~lazy, "suspected_by"] == 0).all()
    assert result.history["clients_suspected"].tolist() == [0, 2, 2, 2, 2, 2]


def test_looking_changes_nothing_and_is_refused_where_columns_change(tiny_run):
    plain, looked = (tiny_run(codec="q4", detect=detect) for detect in (None, "lazy:below=0.3"))
    assert (plain.client(0).row == looked.client(0).row).all()
    with pytest.raises(ConfigError, match="sends other columns in other rounds"):
        tiny_run(method="rolora", detect="lazy")
    with pytest.raises(ConfigError, match="Did you mean 'lazy'"):
        parse_detector("lasy")
