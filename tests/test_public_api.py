"""The public surface: its names, its types, what importing it does, and which room may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import networkx
import pytest

import declora
from declora import errors, seeds

PACKAGE = Path(declora.__file__).parent
CONTRIBUTING = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"
PUBLIC = {
    "Adapter", "Audit", "Callback", "CallbackError", "Codec", "CodecError", "Comparison", "ConfigError", "DataError",
    "DecloraError", "FrameError", "GraphSchedule", "MethodComparison", "Mixer", "ModelError", "Part", "Partitioner",
    "Reproduction", "RoundPlan", "RunFolderError", "Settings", "SimulationConfig", "SimulationResult", "Topology",
    "TopologyError", "TrainingError", "Verification", "__version__", "audit", "compare", "plan_rounds", "reproduce",
    "resume", "simulate", "verify",
}  # fmt: skip


def test_the_public_names_are_these():
    assert set(declora.__all__) == PUBLIC
    assert all(getattr(declora, name) is not None for name in PUBLIC)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = declora.nonsense


def test_importing_declora_loads_nothing_heavy():
    heavy = ("torch", "transformers", "numpy", "matplotlib", "declora._core")
    code = f"import sys, declora; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_the_picture_of_the_house_shows_the_imports_between_rooms_and_no_others():
    """An arrow stands for an import that no way along other arrows leads to: the least that implies all imports."""
    house = networkx.DiGraph((room, other) for room, other, _ in _all_imports())
    circles = list(networkx.simple_cycles(house))
    assert not circles
    arrows = {room: set(others) for room, others in networkx.transitive_reduction(house).adjacency() if others}
    picture = CONTRIBUTING.read_text(encoding="utf-8").split("flowchart TD\n")[1].split("```")[0]
    drawn = dict(line.strip().split(" --> ") for line in picture.splitlines())
    assert {room: set(others.split(" & ")) for room, others in drawn.items()} == arrows


def test_one_module_talks_to_the_core():
    assert {file for _, other, file in _all_imports() if other == "_core"} == {PACKAGE / "_bridge.py"}


def _all_imports():
    """Returns each import of one room by another, with the file that it stands in."""
    return [
        (room, target.split(".")[1], file)
        for file in PACKAGE.rglob("*.py")
        if (room := file.relative_to(PACKAGE).parts[0].removesuffix(".py")) not in ("__init__", "__main__")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        for target in _imports(node, file)
        if target.startswith("declora.") and target.split(".")[1] != room
    ]


def _imports(node, file):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        if node.level:
            parts = ("declora", *file.relative_to(PACKAGE).parts[:-1])
            base = ".".join(parts[: len(parts) - node.level + 1])
            return [f"{base}.{node.module or ''}".rstrip(".")]
        if node.module == "declora":
            return [f"declora.{alias.name}" for alias in node.names]
        return [node.module or ""]
    return []


def test_every_error_is_a_declora_error_and_the_builtin_it_is_in_kind():
    classes = [found for name in errors.__all__ if isinstance(found := getattr(errors, name), type)]
    assert all(issubclass(error, errors.DecloraError) for error in classes)
    assert issubclass(errors.FrameError, ValueError)
    assert issubclass(errors.TopologyError, errors.ConfigError)
    assert issubclass(errors.RunFolderError, OSError)
    assert issubclass(errors.TrainingError, ArithmeticError)


def test_an_unknown_name_shows_the_nearest_and_the_list():
    error = errors.unknown_name("codec", "q44", ["q4", "q8", "none"])
    assert str(error) == "codec='q44' is not known. Did you mean 'q4'? Known: none, q4, q8."


def test_derived_seeds_are_pinned_and_independent():
    """Golden: changing these changes every run, which CHANGELOG.md must say."""
    assert seeds.derive(0, "order", 3, 1) == 11208566672855374395
    assert len({seeds.derive(s, "order", c, e) for s in range(3) for c in range(3) for e in range(3)}) == 27
    assert seeds.derive(1, "a", "b") != seeds.derive(1, "a/b")
    assert seeds.generator(0, "x").integers(1 << 30) == seeds.generator(0, "x").integers(1 << 30)
