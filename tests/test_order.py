"""The order of a client's samples, and how rows are put in slices of like length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from declora import seeds
from declora.train.order import ClientOrder, PoissonOrder, length_slices, steps_per_round, take

SHARD = np.arange(100, 160)


def epochs_of(count, *, seed=1, client=2, whole=True):
    """The samples of the first epochs, one epoch a row."""
    order = ClientOrder(SHARD, batch_size=12, seed=seed, client=client, whole_epochs=whole)
    return np.concatenate([order.batch(step) for step in range(count * 5)]).reshape(count, 60)


def test_epochs_clients_and_seeds_have_orders_of_their_own_none_of_them_the_datas():
    """Two independent orders of 60 samples are equal with a chance of 1 in 60!."""
    orders = [SHARD.tolist()]
    for seed, client in ((1, 2), (1, 3), (2, 2)):
        orders += epochs_of(3, seed=seed, client=client).tolist()
    assert len({tuple(order) for order in orders}) == 10
    assert {tuple(sorted(order)) for order in orders} == {tuple(SHARD)}


def test_an_order_is_a_shuffle_in_which_every_place_is_as_likely():
    """Over 400 epochs a sample's mean place is 29.5 with a standard error of sqrt((60^2 - 1) / 12 / 400) = 0.87."""
    places = np.argsort(epochs_of(400), axis=1).mean(axis=0)
    assert np.abs(places - 29.5).max() < 5 * 0.87


def test_the_order_is_what_the_seeds_say():
    """Golden in effect: another order changes every run of a seed."""
    for epoch, found in enumerate(epochs_of(2)):
        assert found.tolist() == seeds.generator(1, "order", 2, epoch).permutation(SHARD).tolist()


def test_generators_are_set_to_what_numpy_makes_of_each_seed():
    """Seeds of one word and of two, at both ends, and such as `derive` gives; draws before leave nothing behind."""
    derived = [0, 1, 2**32 - 1, 2**32, 2**64 - 1, *(seeds.derive(3, "order", client, 1) for client in range(50))]
    for seed, found in zip(derived, seeds.generators(derived), strict=True):
        alone = np.random.Generator(np.random.Philox(seed))
        assert repr(found.bit_generator.state) == repr(alone.bit_generator.state)
        assert found.permutation(SHARD).tolist() == alone.permutation(SHARD).tolist()
        found.integers(0, 9, 3, dtype=np.int32)  # half a word is left over


@pytest.mark.parametrize("whole", [False, True])
def test_batches_of_all_clients_are_those_of_each(whole):
    """Shards shorter than a batch, too, in which several epochs begin; clients that wait, and steps taken anew."""
    settings = {"batch_size": 4, "seed": 1, "whole_epochs": whole}
    shards = [SHARD[:size] for size in (1, 3, 5, 8)]
    orders = [ClientOrder(shard, client=client, **settings) for client, shard in enumerate(shards)]
    orders.append(PoissonOrder(SHARD, rate=0.2, seed=1, client=4))
    for step in (0, 1, 2, 3, 7, 2):
        active = np.arange(5) != step % 5
        found = take(orders, np.full(5, step), active)
        fresh = [ClientOrder(shard, client=client, **settings) for client, shard in enumerate(shards)]
        fresh.append(PoissonOrder(SHARD, rate=0.2, seed=1, client=4))
        wanted = [order.batch(step) if takes else SHARD[:0] for order, takes in zip(fresh, active, strict=True)]
        assert [batch.tolist() for batch in found] == [batch.tolist() for batch in wanted]


def test_an_order_keeps_no_epoch_that_is_over():
    order = ClientOrder(SHARD[:5], batch_size=4, seed=1, client=0)
    for step in range(20):
        order.batch(step)
        assert len(order._shuffled) <= 2


def test_full_batches_go_on_in_the_next_epoch_and_whole_epochs_do_not():
    full = ClientOrder(SHARD[:5], batch_size=4, seed=1, client=0)
    stream = np.concatenate([seeds.generator(1, "order", 0, epoch).permutation(SHARD[:5]) for epoch in range(4)])
    assert [full.batch(step).tolist() for step in range(5)] == stream.reshape(5, 4).tolist()
    whole = ClientOrder(SHARD[:5], batch_size=4, seed=1, client=0, whole_epochs=True)
    assert [whole.batch(step).tolist() for step in range(4)] == [
        part for epoch in range(2) for part in (stream[5 * epoch :][:4].tolist(), stream[5 * epoch + 4 :][:1].tolist())
    ]


def test_steps_of_a_round_are_those_asked_for_or_those_of_the_epochs():
    orders = [ClientOrder(SHARD[:size], batch_size=4, seed=1, client=0) for size in (1, 4, 5, 8)]
    assert steps_per_round(orders, steps=7, epochs=None).tolist() == [7] * 4
    assert steps_per_round(orders, steps=None, epochs=3).tolist() == [3, 3, 6, 6]


@given(size=st.integers(1, 30), batch=st.integers(1, 12), steps=st.integers(1, 20))
def test_a_client_sees_every_sample_equally_often(size, batch, steps):
    order = ClientOrder(np.arange(100, 100 + size), batch_size=batch, seed=1, client=2)
    seen = np.concatenate([order.batch(step) for step in range(steps)])
    assert len(seen) == batch * steps
    counts = np.bincount(seen - 100, minlength=size)
    assert counts.max() - counts.min() <= 1
    fresh = ClientOrder(np.arange(100, 100 + size), batch_size=batch, seed=1, client=2)
    assert np.array_equal(fresh.batch(steps - 1), order.batch(steps - 1))


@given(size=st.integers(1, 30), batch=st.integers(1, 12), epochs=st.integers(1, 3))
def test_a_whole_epoch_is_every_sample_once_the_last_batch_being_what_is_left(size, batch, epochs):
    order = ClientOrder(np.arange(100, 100 + size), batch_size=batch, seed=1, client=2, whole_epochs=True)
    for epoch in range(epochs):
        batches = [order.batch(epoch * order.steps_per_epoch + step) for step in range(order.steps_per_epoch)]
        assert sorted(np.concatenate(batches)) == list(range(100, 100 + size))
        assert [len(part) for part in batches[:-1]] == [batch] * (len(batches) - 1)
        assert len(batches[-1]) == (size - 1) % batch + 1


@pytest.mark.parametrize(
    ("rows", "slices"), [(1, 1), (7, 1), (15, 1), (16, 2), (31, 3), (32, 4), (39, 4), (40, 4), (200, 4)]
)
def test_there_are_four_slices_or_as_many_as_have_eight_rows(rows, slices):
    """Rows of one length stay in their order, whatever sorting is fastest on this machine."""
    parts = length_slices(np.full(rows, 9))
    assert len(parts) == slices
    assert np.concatenate(parts).tolist() == list(range(rows))
    assert len(length_slices(np.full(rows, 9), smallest=1, most=2)) == min(rows, 2)


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=100))
def test_length_slices_hold_every_row_once_and_fall_in_length(lengths):
    parts = length_slices(np.array(lengths))
    rows = np.concatenate(parts)
    assert sorted(rows) == list(range(len(lengths)))
    assert all(np.diff(np.array(lengths)[rows]) <= 0)
    assert len(parts) <= 4
    assert len(parts) == 1 or min(len(p) for p in parts) >= 8
