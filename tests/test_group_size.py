"""How many clients are computed together: by the memory of one group's activations, and by its rows."""

import pytest

from declora.train.footprint import choose_group_size
from tiny import tiny_bert, tiny_gpt2

# Of each tiny model: hidden size x layers x 17 values x 4 bytes a token; a language model's logits and their gradient
# beside that, 2 x 4 bytes x vocabulary.
BERT, LOGITS = 32 * 2 * 17 * 4, 2 * 4 * 64


@pytest.mark.parametrize(
    ("make", "scored", "length", "rows"),
    [
        (tiny_bert, False, 128, 128),
        (tiny_bert, False, 8000, 2 * 2**30 // (8000 * BERT)),
        (tiny_gpt2, False, 8000, 2 * 2**30 // (8000 * (BERT + LOGITS))),
        (tiny_gpt2, True, 8000, 2 * 2**30 // (8000 * BERT)),
    ],
)
def test_a_group_has_as_many_clients_as_fit_into_its_memory_and_rows(make, scored, length, rows):
    model = make()
    for batch_size in (1, 8):
        found = choose_group_size(model, clients=10**6, batch_size=batch_size, max_length=length, scored=scored)
        assert found == rows // batch_size


def test_a_group_has_one_client_at_least_and_no_more_than_there_are():
    model = tiny_bert()
    assert choose_group_size(model, clients=5, batch_size=8, max_length=128) == 5
    assert choose_group_size(model, clients=5, batch_size=129, max_length=128) == 1
    assert choose_group_size(model, clients=5, batch_size=1, max_length=10**9) == 1
