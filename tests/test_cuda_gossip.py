"""Rounds whose rows stay on a GPU: the bits and the byte counts of rounds through the core's frames."""

import numpy as np
import pytest
import torch

import cards
import federations
from declora import cuda, simulate
from declora.errors import CodecError
from declora.exchange import StarExchange
from declora.mail import CardMail, HostMail
from declora.model import Block, Layout
from declora.plan import Phase, Plan
from tiny import tiny_bert

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning", "ignore:overflow:RuntimeWarning")

CLIENTS, COLUMNS = 3, 301


@pytest.fixture
def both(monkeypatch):
    """Calls a function where kernels are not there, and where they are, with a GPU or without one."""

    def found(call):
        for there in (False, True):
            monkeypatch.setattr(cuda, "there", lambda device, there=there: there)
            yield call()

    return found


def gossip_of(codec="q4", topology="ring", *, mixer="linear", exchange=None, **more):
    federation = federations.federation_of(topology, clients=CLIENTS, codec=codec, mixer=mixer, exchange=exchange)
    start = torch.zeros(CLIENTS, COLUMNS, device=cards.DEVICE)
    return federations.gossip_of(federation, start, seed=5, **more)


def rows_of():
    return federations.rows_of(CLIENTS, COLUMNS).to(cards.DEVICE)


@pytest.mark.parametrize(
    ("codec", "topology"),
    [("none", "star"), ("bf16", "ring"), ("fp16", "complete"), ("q4", "erdos-renyi:0.9"), ("q3", "ring")],
)
def test_rounds_on_a_gpu_have_the_bits_and_the_bytes_of_the_core(both, codec, topology):
    def rounds():
        gossip, rows = gossip_of(codec, topology), rows_of()
        inboxes = [gossip.round(t, rows) for t in range(2)]
        return gossip.gossip.mail, rows.cpu(), [inbox.bytes_sent.tolist() for inbox in inboxes], inboxes[-1]

    (host, expected, sizes, heard), (card, found, counted, inbox) = both(rounds)
    assert isinstance(host, HostMail)
    assert isinstance(card, CardMail)
    assert found.numpy().tobytes() == expected.numpy().tobytes()
    assert counted == sizes
    assert inbox.seconds.keys() == heard.seconds.keys()
    np.testing.assert_array_equal(inbox.public(), heard.public())


def test_a_server_costs_each_client_two_frames_on_a_gpu_too(both):
    host, card = both(lambda: gossip_of(exchange=StarExchange()).round(0, rows_of()).bytes_sent.tolist())
    assert card == host


def test_columns_that_are_not_sent_stay(both):
    def round():
        layout = Layout([Block("a", (100,), "A", 0), Block("b", (150,), "B", 100), Block("c", (51,), "A", 250)])
        gossip, rows = gossip_of(layout=layout), rows_of()
        gossip.state.rooms["adapter"]["adapter"] = rows
        topology, sent = gossip.federation.topology, layout.of_kinds("A")
        phase = Phase(np.zeros(CLIENTS, dtype=np.int64), layout.whole)
        plan = Plan(0, (phase,), sent, topology.round(0))
        inbox = gossip.gossip.round(plan, gossip.state, gossip.method)
        return rows.cpu(), inbox.bytes_sent.tolist()

    (expected, sizes), (found, counted) = both(round)
    assert torch.equal(found, expected)
    assert torch.equal(found[:, 100:250], rows_of().cpu()[:, 100:250])
    assert counted == sizes


@pytest.mark.parametrize(("codec", "bad"), [("q4", float("nan")), ("q4", 2.0**127), ("fp16", 65520.0)])
def test_what_cannot_be_encoded_is_refused_as_by_the_core(both, codec, bad):
    def refused():
        rows = rows_of()
        rows[2, 17] = bad
        before = rows.clone()
        with pytest.raises(CodecError) as error:
            gossip_of(codec).round(0, rows)
        assert torch.equal(rows.nan_to_num(), before.nan_to_num())
        return str(error.value)

    host, card = both(refused)
    assert card == host
    assert "x[2, 17]" in host


@pytest.mark.parametrize(
    "more", [{"codec": "q4+rans"}, {"codec": "q2+choco"}, {"mixer": "median"}, {"method": "decaf"}]
)
def test_what_has_no_kernel_goes_through_the_core(both, more):
    kinds = [type(mail) for mail in both(lambda: gossip_of(**more).gossip.mail)]
    assert kinds == [HostMail, HostMail]


def test_a_run_on_a_gpu_is_the_run_through_the_core(both, texts, tokenizer):
    """Same device, same adapters; with kernels also the mean that is evaluated, and the distance."""

    def run():
        return simulate(
            model=tiny_bert(), data=texts, tokenizer=tokenizer, clients=3, rounds=1, local_steps=1, batch_size=4,
            codec="q3", topology="ring", eval_every=1, client_eval_samples=8, progress=False, seed=3,
            device=cards.DEVICE.type, lora={"r": 2, "target_modules": ["query", "value"]},
        )  # fmt: skip

    host, card = both(run)
    for client in range(3):
        assert torch.equal(card.client(client).row, host.client(client).row)
    assert torch.equal(card.average.row, host.average.row)
    same = ["train_loss", "consensus_distance", "bytes_sent", "average_loss"]
    assert card.history[same].equals(host.history[same])
