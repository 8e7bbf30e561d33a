"""Lazy clients: what they send is what they heard, and who holds that against its own messages finds out."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import declora
import federations
from declora.detection import CopyDetector, parse_detector
from declora.errors import ConfigError
from tiny import tiny_bert

CLIENTS, COLUMNS, LAZY = 8, 200, [2, 5]
HONEST = [client for client in range(CLIENTS) if client not in LAZY]


def rounds_of(attack=None, rounds=4, topology="ring", **settings):
    """Rounds of random work: the plan of each, what everybody had before it, and what everybody heard."""
    federation = federations.federation_of(topology, clients=CLIENTS, attack=attack, attackers=LAZY, **settings)
    rows, work = federations.rows_of(CLIENTS, COLUMNS), torch.Generator().manual_seed(1)
    gossip = federations.gossip_of(federation, rows)
    for t in range(rounds):
        rows += torch.randn(CLIENTS, COLUMNS, generator=work)
        had = rows.numpy().copy()
        yield gossip.plan(t), had, gossip.round(t, rows)


def test_a_lazy_client_sends_byte_for_byte_what_an_honest_neighbour_sent_in_the_round_before():
    """In the first round it has heard nobody, and sends what it should."""
    heard, copied = [], {client: set() for client in LAZY}
    for _, had, inbox in rounds_of("lazy", rounds=10):
        sent = inbox.public().copy()
        assert np.array_equal(sent[HONEST], had[HONEST])
        for client in LAZY:
            if not heard:
                assert np.array_equal(sent[client], had[client])
            else:
                neighbours = [client - 1, client + 1]
                (whom,) = [other for other in neighbours if np.array_equal(sent[client], heard[-1][other])]
                copied[client].add(whom)
        heard.append(sent)
    assert copied == {2: {1, 3}, 5: {4, 6}}


def test_who_hears_nobody_honest_sends_what_it_should():
    """Both neighbours of client 2 are lazy, too."""
    federation = federations.federation_of("ring", clients=CLIENTS, attack="lazy", attackers=[1, 2, 3])
    rows = federations.rows_of(CLIENTS, COLUMNS)
    gossip = federations.gossip_of(federation, rows)
    for t in range(3):
        had = rows.numpy().copy()
        assert np.array_equal(gossip.round(t, rows).public()[2], had[2])


def test_noise_is_added_to_the_copy_with_the_standard_deviation_that_was_asked_for():
    """400 values: their standard deviation has a standard error of 0.5 / sqrt(800), here 4 of them."""
    plain, noisy = ([inbox.public().copy() for *_, inbox in rounds_of(f"lazy:noise={s}", rounds=2)] for s in (0, 0.5))
    assert np.array_equal(plain[0], noisy[0])
    assert (noisy[1] - plain[1])[LAZY].std() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(800))
    assert np.array_equal(plain[1][HONEST], noisy[1][HONEST])


@pytest.mark.parametrize("codec", ["none", "q4", "q8+choco"])
def test_a_client_suspects_whose_message_is_nearer_to_its_own_last_one_than_half_of_its_way_since(codec):
    detector, room, before, found = CopyDetector(), {}, None, 0
    for plan, _, inbox in rounds_of("lazy:noise=0.1", codec=codec):
        now = inbox.public().astype(np.float64)
        expected = np.zeros(CLIENTS, dtype=int)
        for sender, receiver in plan.edges if before is not None else []:
            way = np.linalg.norm(now[receiver] - before[receiver])
            expected[sender] += np.linalg.norm(now[sender] - before[receiver]) < way / 2
        assert (
            detector.suspected(inbox.weights, inbox.public(), room, judges=range(CLIENTS)).tolist() == expected.tolist()
        )
        before, found = now, found + expected.sum()
    assert found


def test_a_copy_is_suspected_by_whom_it_was_copied_from_up_to_the_bound():
    weights, room = sp.csr_array(np.full((3, 3), 1 / 3)), {}
    detector = CopyDetector(below=0.5)
    first = np.zeros((3, 4), dtype=np.float32)
    assert detector.suspected(weights, first, room, judges=[0, 2]).tolist() == [0, 0, 0]
    # Client 0 has moved by 2, so it suspects who is nearer than 1 to where it was.
    moved = np.array([[2, 0, 0, 0], [0.9, 0, 0, 0], [0, 1.1, 0, 0]], dtype=np.float32)
    assert detector.suspected(weights, moved, room, judges=[0]).tolist() == [0, 1, 0]


def test_exact_copies_are_all_found_and_nobody_else_is_suspected(tokenizer, texts):
    """On independent shards: recall 1 from the second round on, and no false positive."""
    result = declora.simulate(
        model=tiny_bert(width=16), tokenizer=tokenizer, data=texts, clients=CLIENTS, rounds=6, local_steps=2,
        attack="lazy", attackers=LAZY, detect="lazy", client_eval_samples=0, eval_every=9, progress=False,
        lora={"r": 2, "target_modules": ["query", "value"]},
    )  # fmt: skip
    suspected = result.clients.pivot(index="round", columns="client", values="suspected_by") > 0
    assert suspected.to_numpy().tolist() == [[t > 0 and c in LAZY for c in range(CLIENTS)] for t in range(6)]
    assert result.history["clients_suspected"].tolist() == [0, 2, 2, 2, 2, 2]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"detect": "lazi"}, r"^detect='lazi' is not known\. Did you mean 'lazy'\?"),
        ({"detect": "lazy:below=0"}, r"^detect='lazy:below=0': below='0' must be a number above 0"),
        ({"attack": "lazy:noise=-1"}, r"^attack='lazy:noise=-1': noise='-1' must be a number of at least 0"),
    ],
)
def test_names_and_options_are_checked(settings, said):
    with pytest.raises(ConfigError, match=said):
        declora.SimulationConfig(**settings)


@pytest.mark.parametrize("method", ["rolora", "dis-pfl"])
def test_methods_that_send_other_columns_in_other_rounds_cannot_be_looked_at(method, tokenizer, texts):
    with pytest.raises(ConfigError, match=r"^detect='lazy' compares .* Leave detect out, or"):
        declora.simulate(model=tiny_bert(), tokenizer=tokenizer, data=texts, method=method, detect="lazy", clients=4)


def test_the_bound_is_an_option():
    assert (parse_detector("lazy").below, parse_detector("lazy:below=0.3").below) == (0.5, 0.3)


def test_looking_changes_nothing(tiny_run):
    plain, looked = (tiny_run(codec="q4", detect=detect) for detect in (None, "lazy:below=0.3"))
    assert torch.equal(plain.client(0).row, looked.client(0).row)
