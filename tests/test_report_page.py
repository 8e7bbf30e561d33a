"""Pages of a report: whole, self-contained, escaped, and of bounded size."""

import re
from html.parser import HTMLParser

import pandas as pd
from matplotlib.figure import Figure

from declora.report import RunSummary, comparison_report, house_style, run_report, topology_figure
from declora.report.svg import inline_svg
from report_rows import make_clients, make_history, make_summary


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


def test_a_page_is_well_formed_and_loads_nothing():
    for text in (
        run_report(make_summary()),
        comparison_report([make_summary("a"), make_summary("b", "none")]),
    ):
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
        assert {value[1:] for _, name, value in page.attributes if name == "href"} <= set(ids)


def test_a_run_report_shows_its_numbers():
    words = [word for word in Page(run_report(make_summary())).text if word]
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
    for text in (run_report(summary), comparison_report([summary, make_summary()], title=evil)):
        page = Page(text)
        assert "script" not in page.tags
        assert "<script" not in text
        assert evil in page.text


def test_a_report_of_an_unmeasured_run_is_a_page():
    text = run_report(RunSummary("empty", {}, pd.DataFrame({"round": []})))
    assert "not measured" in Page(text).text
    assert "0 rounds" in text


def test_a_report_has_the_evaluated_rounds_only():
    text = run_report(make_summary())
    table = text[text.index("<h2>Evaluated rounds") : text.index("<h2>Clients")]
    assert re.findall(r'<tr><td class="n">(\d+)</td>', table) == ["2", "4", "6"]


def test_the_same_run_gives_the_same_page():
    assert run_report(make_summary()) == run_report(make_summary())


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
    text = comparison_report([make_summary("a", "none"), make_summary("b", "q4")])
    assert "local work a round (K)" in text
    differ, same = text[text.index("Where the runs differ") :].split("The same in all runs")
    assert "codec" in differ
    assert "seed" not in differ
    assert "seed" in same


def test_a_comparison_needs_runs_with_distinct_titles():
    with pytest.raises(ConfigError, match=r"titles \['a', 'a'\].*each with its own title"):
        comparison_report([make_summary("a"), make_summary("a")])
    with pytest.raises(ConfigError, match=r"titles \[\].*at least one"):
        comparison_report([])
