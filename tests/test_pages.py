"""The Markdown files: links lead somewhere, examples and commands run, and no public name is left out."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

import declora
from declora.cli.command import _parser
from declora.cli.simulate import _changes
from declora.config import SimulationConfig
from tiny_places import ENCODERS, furnish

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *ROOT.glob("*.md"),
    *(path for room in ("docs", "benches", "examples") for path in (ROOT / room).rglob("*.md")),
]
WITH_EXAMPLES = ("quickstart", "concepts", "own-data", "causal-lm", "four-bit", "robust", "private", "../README")
PLATFORMS = ("linux-x86_64", "linux-aarch64", "macos-x86_64", "macos-aarch64", "windows-x86_64")


def blocks(page, *languages):
    """The code of a page that is in one of these languages."""
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


def prose(page):
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M))


def anchors(page):
    """By what the headings of a page are found, as forges make it of their text."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", text, re.M)}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if not found.exists() or (anchor and anchor not in anchors(found)):
            missing.append(target)
    assert not missing


@pytest.fixture(scope="module")
def furnished(tmp_path_factory):
    return furnish(tmp_path_factory.mktemp("pages"))


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_page_run_one_after_another(name, furnished, monkeypatch, capsys):
    """With tiny models under the names that the page has, and fewer and smaller steps; nothing else is changed."""
    if name == "four-bit":
        pytest.importorskip("bitsandbytes")
    if name == "private":
        pytest.importorskip("dp_accounting")
    monkeypatch.chdir(furnished)
    simulate = declora.simulate
    small = {"rounds": 1, "local_steps": 1, "batch_size": 4, "client_eval_samples": 2, "lora": {"r": 2}}
    embedded = {"minilm": ENCODERS[0], "stdlib-docstrings": "messages.csv"}

    def tiny(**settings):
        for place, usual in (("model", "minilm"), ("data", "stdlib-docstrings")):
            given = settings.get(place, usual)
            settings[place] = embedded.get(given, given) if isinstance(given, str) else given
        if name == "../README" and "max_new_tokens" in settings:  # a tiny model has few positions
            settings |= {"max_new_tokens": 4, "max_length": 40}
        return simulate(**{**settings, **small})

    monkeypatch.setattr(declora, "simulate", tiny)
    names = {}
    for code in blocks(DOCS / f"{name}.md", "python"):
        if "reproduce(" in code:  # hours of training; tests/test_experiments.py has its own
            continue
        exec(compile(code, f"{name}.md", "exec"), names)
    said = capsys.readouterr().out.splitlines()
    if name == "concepts":
        assert said == ["0.13 20", "1.00 90"]
    else:
        assert said


def commands():
    """Each command of declora in a page, without what a comment says of it."""
    for page in PAGES:
        for line in "\n".join(blocks(page, "sh", "console")).replace("\\\n", " ").splitlines():
            for command in line.split("#")[0].split("&&"):
                if command.strip().startswith("declora "):
                    yield pytest.param(shlex.split(command)[1:], id=f"{page.stem}: {command[8:50].strip()}")


@pytest.mark.parametrize("arguments", commands())
def test_a_command_of_a_page_is_one_that_there_is(arguments):
    if arguments == ["--version"]:
        return
    options = _parser().parse_args(arguments)
    if arguments[0] == "simulate":
        config = SimulationConfig()
        config.override(**_changes(config, options.settings))


def test_every_public_name_is_in_the_reference():
    named = re.findall(r"^::: declora\.(\w+)$", (DOCS / "reference.md").read_text(encoding="utf-8"), re.M)
    assert set(named) - {"testing"} == set(declora.__all__) - {"__version__"}
    assert len(named) == len(set(named))


def test_what_is_said_of_the_package_is_true():
    """The version of the citation, and what the workflow that builds wheels names."""
    version = re.search(r'^version = "([^"]+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    workflow = (ROOT / ".github" / "workflows" / "wheels.yml").read_text()
    assert re.findall(r"name: (\w+-\w+), runner:", workflow) == list(PLATFORMS)


def test_lists_have_a_line_of_their_own_before_them():
    """Forges show a list right after a line of text as a list; the site would not."""
    found = []
    for page in DOCS.rglob("*.md"):
        for before, line in itertools.pairwise(prose(page).splitlines()):
            if re.match(r"(- |\d+\. |\| )", line) and before.strip() and not re.match(r"(- |  |\d+\. |\||#)", before):
                found.append(f"{page.name}: {line}")
    assert not found
