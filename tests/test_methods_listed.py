"""The list of methods: what it says of each is what a run sends, and its page is up to date."""

from pathlib import Path

import pytest

from declora import cli
from declora.cli.methods import as_page, as_text
from declora.methods import METHODS, NAMED
from declora.methods.overview import describe_method, describe_methods, reference_layout

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods.md"


def test_every_method_is_listed_once_with_its_source_and_a_whole_sentence():
    methods = describe_methods()
    assert len(methods) == len(METHODS) + len(NAMED)
    for method, name in zip(methods, (*METHODS, *NAMED), strict=True):
        assert method.name.startswith(name)
        assert method.about.endswith(".")
        assert method.source == METHODS[name].source if name in METHODS else method.parts == NAMED[name]


@pytest.mark.parametrize(
    ("method", "numbers", "way"),
    [
        # 24 layers of A [8, 768] and B [768, 8], a dense layer of 768 x 768 + 768, and 2 x 768 + 2.
        ("dec-lora", 24 * 2 * 8 * 768 + 768 * 769 + 2 * 769, "to each neighbour"),
        ("ffa-lora", 24 * 8 * 768 + 768 * 769 + 2 * 769, "to each neighbour"),
        ("rolora", 24 * 8 * 768 + 768 * 769 + 2 * 769, "to each neighbour"),
        ("gradient-tracking", 2 * (24 * 2 * 8 * 768 + 768 * 769 + 2 * 769), "to each neighbour"),
        ("flexlora", 24 * 2 * 8 * 768 + 768 * 769 + 2 * 769, "to a server and back"),
        ("kd", 200 * 2, "to each neighbour"),  # public texts, classes
        ("kd-topk", 200 * 128 * 8 * 2, "to each neighbour"),  # texts, next words of each, k with their probabilities
        ("local", 0, "nothing is sent"),
    ],
)
def test_a_message_has_the_numbers_that_are_planned(method, numbers, way):
    found = describe_method(method)
    assert (found.numbers, found.way) == ((numbers, numbers), way)
    assert reference_layout().size("A") == 24 * 8 * 768


def test_nothing_is_cut_at_80_columns_and_a_wide_terminal_has_a_line_for_each():
    methods = describe_methods()
    narrow, wide = as_text(methods, 80), as_text(methods, 1000)
    assert len(wide.split("\n\n")[0].splitlines()) == len(methods)
    for method in methods:
        assert all(" ".join(cell.split()) in " ".join(narrow.split()) for cell in (method.about, method.source))
    assert max(map(len, narrow.splitlines())) <= 80


def test_the_page_is_what_the_command_writes(capsys):
    assert cli.main(["methods", "--markdown"]) == 0
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8") == as_page(describe_methods())
