"""Owns the picture: what waiting costs against the number of executions, for both providers."""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks import triggers
from tests.benchmarks.bench import Bench
from tests.benchmarks.notebook import Figures
from tests.benchmarks.providers import AMAZON, OURS
from tests.benchmarks.tables import compare
from tests.benchmarks.workload import Workload
from tests.benchmarks.works import GROWTH

PLACE: Final = Path(__file__).parent / "cost.png"
COLOURS: Final = ("#0b6e4f", "#c8553d")
COLOURS_KEPT: Final = 48
NAMES: Final = {OURS.name: "polysync-airflow", AMAZON.name: "apache-airflow-providers-amazon"}
PANELS: Final = (
    (triggers.CPU, "CPU of the triggerer's process, seconds"),
    (triggers.MEMORY, "memory above the start, MiB"),
)
Points = Mapping[Workload, Mapping[str, Figures]]


def draw(points: Points, place: Path) -> None:
    """
    Draw a panel for CPU and one for memory.

    :param points: figures by workload and provider.
    :param place: the PNG.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from PIL import Image

    work = next(iter(points))
    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4), dpi=100, layout="constrained")
    for panel, (name, title) in zip(panels, PANELS, strict=True):
        providers = dict.fromkeys(provider for found in points.values() for provider in found)
        for provider, colour in zip(providers, COLOURS, strict=False):
            _line(panel, points, provider, name, colour)
        panel.set(xscale="log", yscale="log", title=title, xlabel="executions that are waited for")
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.yaxis.set_major_formatter("{x:,g}")
        panel.grid(alpha=0.3)
    figure.suptitle(
        f"Waiting in a triggerer: executions of at most 20 pipelines, {work.seconds:g} s each, "
        f"poll_interval {work.poll:g} s",
        fontsize=10,
    )
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=len(lines), frameon=False, fontsize=9)
    drawn = io.BytesIO()
    figure.savefig(drawn)
    pyplot.close(figure)
    # A few colours and their shades: a palette of its own takes a third of the space.
    Image.open(drawn).convert("P", palette=Image.Palette.ADAPTIVE, colors=COLOURS_KEPT).save(
        place, optimize=True
    )


def _line(panel: object, points: Points, provider: str, name: str, colour: str) -> None:
    done, cut = _series(points, provider, name)
    plot = panel.plot  # type: ignore[attr-defined]
    plot(*zip(*done, strict=True), color=colour, marker="o", label=NAMES[provider])
    if cut:
        # It would have taken more, had it not been stopped.
        label = f"{NAMES[provider]}, stopped early"
        plot(
            *zip(*cut, strict=True), color=colour, marker="^", linestyle="none", fillstyle="none", label=label
        )


def _series(
    points: Points, provider: str, name: str
) -> tuple[Sequence[tuple[int, float]], Sequence[tuple[int, float]]]:
    found = [(work.executions, figures[provider]) for work, figures in points.items() if provider in figures]
    undone = [figures.values[triggers.UNDONE] > 0 for _, figures in found]
    values = [(count, figures.values[name]) for count, figures in found]
    done = [value for value, late in zip(values, undone, strict=True) if not late]
    return done, [value for value, late in zip(values, undone, strict=True) if late]


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options.

    :param parser: the part's.
    """
    parser.add_argument("--place", type=Path, default=PLACE, help="where the PNG goes")


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure, print and draw.

    :param options: the command line.
    :param bench: where.
    """
    points = {work: triggers.measure(work, bench) for work in GROWTH}
    for work, found in points.items():
        print(f"\n### {work}\n\n{compare(found)}", flush=True)
    triggers.show_together(points)
    draw(points, options.place)
    print(f"\nDrawn: {options.place.name}, {options.place.stat().st_size / 1000:.0f} kB")
