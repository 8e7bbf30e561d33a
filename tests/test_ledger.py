"""The chain of a ledger: whatever is changed in it is found at the record where it was changed, and by name."""

import json

import numpy as np
import pytest

pytest.importorskip("cryptography")

from declora.errors import ConfigError, RunFolderError, TrainingError
from declora.ledger import Keys, Ledger, check_installed, digest, read_chain
from declora.ledger.digests import canonical, signed_text

CLIENTS, ROUNDS = 3, 4
KEYS = Keys.draw(CLIENTS)


def ledger_of(keys=KEYS, *, run="r", rounds=ROUNDS, changed=()):
    """A ledger of made-up digests; those of (round, client) pairs in `changed` are other ones."""
    ledger = Ledger(keys, run=run, origin={"settings": {"seed": 0}})
    for t in range(1, rounds + 1):
        rows = [
            {
                "client": client,
                "message_digest": None if t == 2 and client == 1 else digest(bytes([t, client, 0])),
                "adapter_digest": digest(bytes([t, client, (t, client) in changed])),
            }
            for client in range(CLIENTS)
        ]
        ledger.add({"round": t, "clients": rows})
    return ledger


LINES = ledger_of().lines


def hashed(record):
    """A line with the hash that its record should have."""
    record = {name: value for name, value in record.items() if name != "hash"}
    return canonical({**record, "hash": digest(canonical(record))}) + b"\n"


def paths(value, path=()):
    """The way to each number, text and null in a record."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for key, item in items for found in paths(item, (*path, key))]
    return [path]


def changed_at(record, path, value):
    record = json.loads(json.dumps(record))
    at = record
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return record


def test_a_ledger_is_sound_and_its_head_is_the_hash_of_its_last_record():
    chain = read_chain(LINES)
    assert chain.fault is None
    assert (chain.rounds, chain.clients) == (ROUNDS, CLIENTS)
    last = json.loads(LINES[-1])
    assert chain.head == last.pop("hash") == digest(canonical(last))


def test_a_round_that_not_all_can_sign_is_no_record():
    ledger = Ledger(Keys.draw(3), run="0" * 32, origin={})
    rows = [{"client": client, "message_digest": None, "adapter_digest": digest(b"row")} for client in (0, 2)]
    with pytest.raises(TrainingError, match="round 1: 1 of 3 clients are lost"):
        ledger.add({"round": 1, "clients": rows})
    assert len(ledger.lines) == 1


def test_digests_are_blake2b():
    """RFC 7693's function of 32 bytes, of the empty text; from another implementation."""
    assert digest() == "blake2b:0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"
    assert digest(b"a", np.frombuffer(b"bc", np.uint8)) == digest(b"abc")


def test_same_keys_and_digests_give_the_same_head_and_others_another():
    assert ledger_of().head == ledger_of().head
    assert len({ledger_of().head, ledger_of(run="s").head, ledger_of(Keys.draw(CLIENTS)).head}) == 3


@pytest.mark.parametrize("number", range(ROUNDS + 1))
@pytest.mark.parametrize("again", [False, True], ids=["as it is", "hashed again"])
def test_a_change_of_any_value_breaks_the_chain_at_its_record(number, again):
    """Hashed again, the first record is one of another run, whose hash the second does not have."""
    record = json.loads(LINES[number])
    for path in paths(record):
        for value in ("x", 1, 7, None, [], "blake2b:" + "0" * 64):
            other = changed_at(record, path, value)
            if other == record or (again and path == ("hash",)):
                continue
            line = hashed(other) if again else canonical(other) + b"\n"
            chain = read_chain([*LINES[:number], line, *LINES[number + 1 :]])
            assert chain.fault is not None, (path, value)
            found = {len(chain.records)} - {number}
            assert not found or (number == 0 and again and found == {1}), (path, value, chain.fault)


def test_any_changed_byte_is_found_at_its_record():
    rng = np.random.default_rng(0)
    for _ in range(200):
        number = int(rng.integers(len(LINES)))
        line = bytearray(LINES[number])
        line[rng.integers(len(line) - 1)] ^= 1 << int(rng.integers(8))
        chain = read_chain([*LINES[:number], bytes(line), *LINES[number + 1 :]])
        assert chain.rounds == max(0, number - 1)
        assert chain.fault is not None
        assert chain.fault.startswith(f"record {number} (")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([*LINES[:2], *LINES[3:]], r"record 2 \(round 2\): it is of round 3: a record is missing"),
        ([*LINES[:2], LINES[1], *LINES[2:]], r"record 2 .*it is of round 1: .* is there twice"),
        ([*LINES[:2], LINES[3], LINES[2], LINES[4]], r"record 2 .*it is of round 3: .* was moved"),
        (LINES[1:], r"record 0 \(the first\): it does not have the values format"),
        ([], r"record 0 \(the first\): it is missing"),
        ([LINES[0], b"\xff\n"], r"record 1 .*it is not JSON"),
        ([LINES[0], b"[" * 100_000 + b"\n"], r"record 1 .*it is not JSON"),
        ([LINES[0], LINES[1].replace(b":", b": ", 1)], r"record 1 .*its bytes are not the ones"),
        (
            [*LINES[:3], ledger_of(rounds=3, changed={(1, 0)}).lines[3]],
            r"record 3 .*previous is not the hash of record 2",
        ),
    ],
)
def test_what_is_broken_first_is_named(lines, said):
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(read_chain(lines).fault)


def test_a_foreign_signature_is_found_though_all_hashes_are_right():
    """Client 1's entry signed by client 2, or by a stranger."""
    record = json.loads(LINES[3])
    entry = record["clients"][1]
    text = signed_text(record["previous"], 3, 1, entry)
    for signature in (KEYS.sign(2, text), Keys.draw(1).sign(0, text), record["clients"][2]["signature"]):
        line = hashed(changed_at(record, ("clients", 1, "signature"), signature))
        fault = read_chain([*LINES[:3], line]).fault
        assert fault == "record 3 (round 3): client 1 has not signed these digests of its message and its adapter."


def test_who_has_one_clients_key_cannot_change_a_round_without_those_of_all_others():
    """It signs another digest, hashes again, and sets all later hashes right: the others have signed the old ones."""
    record = changed_at(json.loads(LINES[2]), ("clients", 1, "adapter"), digest(b"another"))
    signature = KEYS.sign(1, signed_text(record["previous"], 2, 1, record["clients"][1]))
    lines = [*LINES[:2], hashed(changed_at(record, ("clients", 1, "signature"), signature))]
    assert read_chain(lines).fault is None
    assert read_chain([*lines, *LINES[3:]]).fault == "record 3 (round 3): previous is not the hash of record 2."
    following = changed_at(json.loads(LINES[3]), ("previous",), json.loads(lines[-1])["hash"])
    signature = KEYS.sign(1, signed_text(following["previous"], 3, 1, following["clients"][1]))
    following = changed_at(following, ("clients", 1, "signature"), signature)
    fault = read_chain([*lines, hashed(following)]).fault
    assert fault == "record 3 (round 3): client 0 has not signed these digests of its message and its adapter."


def test_keys_are_read_as_they_were_written_and_drawn_anew_each_time():
    again = Keys.load(KEYS.dump(), field="path='x'")
    assert again.public == KEYS.public
    assert again.sign(0, b"text") == KEYS.sign(0, b"text")
    assert len({*KEYS.public, *Keys.draw(CLIENTS).public}) == 2 * CLIENTS


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", KEYS.dump().replace(b'"version": 1', b'"version": 2')])
def test_keys_that_cannot_be_read_are_refused_and_not_shown(content):
    with pytest.raises(RunFolderError, match=r"path='x' does not hold the keys of a ledger\. Restore") as refused:
        Keys.load(content, field="path='x'")
    assert refused.value.__cause__ is None


def test_a_missing_library_is_named_with_the_extra_that_has_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"ledger=True needs .*cryptography, .*pip install '\.\[ledger\]'"):
        check_installed("ledger=True")
