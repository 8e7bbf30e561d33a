"""Pages of a report: whole, self-contained, escaped, and of bounded size."""

import functools
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from declora.errors import ConfigError
from declora.report import RunSummary, comparison_report, comparison_table, house_style, run_report, topology_figure
from declora.report.svg import inline_svg
from report_rows import make_clients, make_history, make_summary

pytestmark = pytest.mark.usefixtures("pictures")


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that all tags close."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.attributes, self.tags, self.text, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())


def compared(*summaries, **settings):
    """The page of several runs, as a comparison makes it of them."""
    histories = {summary.title: summary.history for summary in summaries}
    configs = {summary.title: summary.config for summary in summaries}
    return comparison_report(comparison_table(histories), histories, configs, **settings)


def large_summary(clients, rounds=2):
    """A run of many clients, whose graph has many links and whose data has many classes."""
    counts = pd.DataFrame(np.ones((clients, 60), dtype=int), columns=[f"class {i}" for i in range(60)])
    return RunSummary(
        "large",
        {"attackers": list(range(clients))},
        make_history(rounds, clients=clients),
        make_clients(rounds, clients=clients),
        figures=[("Graph", topology_figure(clients, np.argwhere(~np.eye(clients, dtype=bool))))],
        tables=[("Samples by label", counts)],
    )


@functools.cache
def page_of(clients=None):
    """The page of a small run, or of a large one."""
    return run_report(large_summary(clients) if clients else make_summary())


def test_a_page_is_well_formed_and_loads_nothing():
    pages = page_of(), page_of(1100), compared(make_summary("a"), make_summary("b"))
    for text in pages:
        page = Page(text)
        assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
        assert "://" not in text
        assert "@import" not in text
        for _, name, value in page.attributes:
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("#", "data:"))
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
        assert "default-src 'none'" in text
        ids = [value for _, name, value in page.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        links = {value for _, name, value in page.attributes if name == "href" and not value.startswith("data:")}
        assert links <= {f"#{value}" for value in ids}


def test_a_run_report_shows_its_numbers():
    words = [word for word in Page(page_of()).text if word]
    for word in ("80.0 %", "after round 6 of 6; best 80.0 % after round 6",
                 "min 77.0 %, max 82.0 %; after round 6 of 6; best 79.0 % after round 6", "24.0 kB",
                 "1.00 kB per client and round", "16.5 s", "73% of it training", "0.0156",
                 "4 clients, 6 rounds, K = 5 steps", "spectral gap", "0.127", "The ring",
                 "lora.targets", "query, value", "torch", "2.13", "declora run --seed 7", "Labels"):  # fmt: skip
        assert word in words, word
    assert "nan" not in " ".join(words).lower().split()


def test_every_text_of_a_page_is_escaped():
    evil = "<script>alert('&\"')</script>"
    with house_style():
        figure = Figure()
        figure.add_subplot().set_title(evil)
    summary = RunSummary(
        evil,
        {evil: evil, "nested": {evil: [evil]}},
        make_history(),
        make_clients(),
        facts={evil: evil},
        figures=[(evil, figure)],
        environment={evil: evil},
        tables=[(evil, pd.DataFrame({evil: [evil]}))],
        rerun=evil,
    )
    for text in (run_report(summary), compared(summary, make_summary(), title=evil)):
        page = Page(text)
        assert "script" not in page.tags
        assert "<script" not in text
        assert evil in page.text


def test_a_report_of_an_unmeasured_run_is_a_page():
    text = run_report(RunSummary("empty", {}, pd.DataFrame({"round": []})))
    assert "not measured" in Page(text).text
    assert "0 rounds" in text


def test_a_report_has_the_evaluated_rounds_only():
    text = page_of()
    table = text[text.index("<h2>Evaluated rounds") : text.index("<h2>Clients")]
    assert re.findall(r'<tr><td class="n">(\d+)</td>', table) == ["2", "4", "6"]


def test_the_same_run_gives_the_same_page():
    assert run_report(make_summary()) == page_of()


def test_a_figure_in_the_house_style_follows_the_mode_and_another_stays_as_drawn():
    with house_style():
        ours = Figure()
        ours.add_subplot().plot([1, 2], color="#0072b2")
    svg = inline_svg(ours, "ours")
    assert "#0072b2" not in svg
    assert "stroke: var(--c4)" in svg
    other = Figure()
    other.add_subplot().plot([1, 2], color="#0072b2")
    svg = inline_svg(other, 'a "label"')
    assert "var(" not in svg
    assert "#0072b2" in svg
    assert 'aria-label="a &quot;label&quot;"' in svg


def test_the_topology_picture_follows_the_mode():
    assert "#ffffff" not in inline_svg(topology_figure(3, [(0, 1), (1, 2)]), "ring")


def test_a_comparison_shows_where_the_runs_differ():
    text = compared(make_summary("a", "none"), make_summary("b", "q4"))
    differ, same = text[text.index("Where the runs differ") :].split("The same in all runs")
    assert "codec" in differ
    assert "seed" not in differ
    assert "seed" in same


def test_a_comparison_shows_the_table_that_it_is_given():
    histories = {"a": make_history(), "b": make_history()}
    numbers = comparison_table(histories, codecs={"b": "q4"}, local_work={"a": "5 steps", "b": "7 steps"})
    text = comparison_report(numbers, histories, {"a": {"codec": "q4"}, "b": {"codec": "q4"}})
    results = text[: text.index("<h2>Course")]
    rows = [re.findall(r'<td class="s">(.*?)</td>', row) for row in re.findall(r"<tr><td.*?</tr>", results)]
    assert rows == [["a", "–", "5 steps"], ["b", "q4", "7 steps"]]  # scores stand between the first two
    assert re.findall(r'<th scope="col" class="n">(.*?)</th>', results)[0] == "accuracy of averaged model, last"


def test_runs_may_be_called_like_a_column():
    names = ("setting", "method", "bytes_total", "average_accuracy_best")
    text = compared(*(make_summary(name, codec=f"q{bits}") for bits, name in enumerate(names, start=2)))
    head = re.findall(r"<th scope=\"col\">(.*?)</th>", text[text.index("Where the runs differ") :])
    assert head == ["setting", *names]


def test_a_comparison_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="holds no run to compare"):
        comparison_report(pd.DataFrame(), {}, {})


def test_a_page_does_not_grow_with_the_clients():
    """Rows and links beyond some number are left out, and said to be; nothing else is there once a client."""
    small, large = page_of(1100), page_of(2200)
    assert len(large) < 1.1 * len(small) < 1_000_000
    words = Page(large).text
    assert any("the first and the last 100 of 2,200 rows; all of it is in clients.csv" in word for word in words)
    both = "the first and the last 100 of 2,200 rows, the first 23 and the last of 60 columns"
    assert any(f"{both}; all of it is in samples-by-label.csv" in word for word in words)
    assert "1,500 of 2,418,900 links" in words
    assert any(word.endswith("… (12,088 characters)") for word in words)
    rows = re.findall(r"<tr><td class=\"n\">([\d,]+)</td>", large[large.index("<h2>Clients") :])
    assert [rows[0], rows[99], rows[100], rows[-1]] == ["0", "99", "2,100", "2,199"]


def test_the_columns_of_a_users_table_are_shown_as_they_are():
    """A class called like a measure is neither translated nor counted in bytes or percent."""
    names = ["client", "client", "bytes_sent", "average_accuracy_last", "seconds", "x" * 100]
    counts = pd.DataFrame([[0, 1, 2, 3, 4, 1500]], columns=names)
    text = run_report(RunSummary("run", {}, make_history(), tables=[("Labels", counts)]))
    table = text[text.index("<h3>Labels") : text.index("<h2>Evaluated")]
    assert re.findall(r"<th .*?>(.*?)</th>", table) == [*names[:-1], f"{'x' * 40}… (100 characters)"]
    assert re.findall(r"<td .*?>(.*?)</td>", table) == ["0", "1", "2", "3", "4", "1,500"]
