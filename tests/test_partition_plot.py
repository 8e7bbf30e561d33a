"""The picture of a partition shows its counts."""

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from data_rows import text_data, unlabelled
from declora.data import partition


@pytest.fixture
def figures() -> Iterator[None]:
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.mark.usefixtures("figures")
def test_the_bars_of_the_plot_are_the_counts() -> None:
    parts = partition("dirichlet:0.5", text_data([i % 3 for i in range(90)]), 5, seed=0)
    ax = parts.plot()
    widths = np.array([[bar.get_width() for bar in bars] for bars in ax.containers])  # type: ignore[attr-defined]
    assert np.array_equal(widths.T, parts.counts.iloc[:, :-1].to_numpy())
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["class 0", "class 1", "class 2"]
    assert ax.get_title(loc="left") == "dirichlet:0.5"


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize(("clients", "classes"), [(41, 3), (300, 30), (2, 12)])
def test_many_clients_or_classes_are_drawn_on_the_given_axes(clients: int, classes: int) -> None:
    _, ax = plt.subplots()
    parts = partition("iid", text_data([i % classes for i in range(1200)]), clients, seed=0)
    assert parts.plot(ax) is ax
    assert len(ax.collections) + len(ax.containers) == classes
    assert ax.get_ylim() == (clients - 0.5, -0.5)
    assert (ax.get_legend() is None) == (classes > 20)


@pytest.mark.usefixtures("figures")
def test_unlabelled_text_is_drawn_without_a_legend() -> None:
    parts = partition("quantity:1", unlabelled(50), 4, seed=0)
    ax = parts.plot()
    assert [bar.get_width() for bar in ax.patches] == parts.counts["total"].tolist()  # type: ignore[attr-defined]
    assert ax.get_legend() is None
