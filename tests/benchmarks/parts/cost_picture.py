"""
Draws the CPU time and the memory of a triggerer against the number of executions, for
both providers.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.parts import triggers
from tests.benchmarks.providers import AMAZON, OURS
from tests.benchmarks.results_cache import Metrics
from tests.benchmarks.tables import compare
from tests.benchmarks.workload import Workload
from tests.benchmarks.workload_presets import GROWTH

PICTURE: Final = Path(__file__).parents[3] / "docs" / "images" / "cost.png"
LINE_COLOURS: Final = ("#0b6e4f", "#c8553d")
PALETTE_SIZE: Final = 48
NAMES: Final = {
    OURS.name: "polysync-airflow",
    AMAZON.name: "apache-airflow-providers-amazon",
}
PANELS: Final = (
    (triggers.CPU, "CPU time of the triggerer process, seconds"),
    (triggers.MEMORY, "memory above the start, MiB"),
)
Results = Mapping[Workload, Mapping[str, Metrics]]


def draw(results: Results, path: Path) -> None:
    """
    Draw one panel for CPU time and one for memory.

    :param results: metrics by workload and provider.
    :param path: the PNG file to write.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot
    from PIL import Image

    work = next(iter(results))
    figure, panels = pyplot.subplots(
        1, 2, figsize=(9, 4), dpi=100, layout="constrained"
    )
    for panel, (metric, title) in zip(panels, PANELS, strict=True):
        providers = dict.fromkeys(
            provider for metrics in results.values() for provider in metrics
        )
        for provider, colour in zip(providers, LINE_COLOURS, strict=False):
            _draw_line(panel, results, provider, metric, colour)
        panel.set(
            xscale="log", yscale="log", title=title, xlabel="number of executions"
        )
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.yaxis.set_major_formatter("{x:,g}")
        panel.grid(alpha=0.3)
    figure.suptitle(
        f"Waiting in a triggerer: executions of at most 20 pipelines, {work.seconds:g} s each, "
        f"poll interval {work.poll_interval:g} s",
        fontsize=10,
    )
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(
        lines,
        names,
        loc="outside lower center",
        ncols=len(lines),
        frameon=False,
        fontsize=9,
    )
    image = io.BytesIO()
    figure.savefig(image)
    pyplot.close(figure)
    # The picture has few colours: with its own palette, the file has a third of the
    # size.
    Image.open(image).convert(
        "P", palette=Image.Palette.ADAPTIVE, colors=PALETTE_SIZE
    ).save(path, optimize=True)


def _draw_line(
    panel: object, results: Results, provider: str, metric: str, colour: str
) -> None:
    finished, cancelled = _series(results, provider, metric)
    plot = panel.plot  # type: ignore[attr-defined]
    plot(*zip(*finished, strict=True), color=colour, marker="o", label=NAMES[provider])
    if cancelled:
        # The real cost is higher than the point, because the run was cancelled before
        # its end.
        label = f"{NAMES[provider]}, cancelled"
        plot(
            *zip(*cancelled, strict=True),
            color=colour,
            marker="^",
            linestyle="none",
            fillstyle="none",
            label=label,
        )


def _series(
    results: Results, provider: str, metric: str
) -> tuple[Sequence[tuple[int, float]], Sequence[tuple[int, float]]]:
    """
    Return the points of the runs that finished, and the points of the runs that were
    cancelled.
    """
    finished: list[tuple[int, float]] = []
    cancelled: list[tuple[int, float]] = []
    for work, metrics in results.items():
        if provider in metrics:
            values = metrics[provider].values
            series = cancelled if values[triggers.UNFINISHED] > 0 else finished
            series.append((work.executions, values[metric]))
    return finished, cancelled


def add_options(parser: argparse.ArgumentParser) -> None:
    """
    Add the options of this part.

    :param parser: the parser of this part.
    """
    parser.add_argument(
        "--place", dest="path", type=Path, default=PICTURE, help="path of the PNG file"
    )


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure the growth of the costs, print the metrics, and draw the picture.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    results = {work: triggers.measure(work, context) for work in GROWTH}
    for work, metrics in results.items():
        print(f"\n### {work}\n\n{compare(metrics)}", flush=True)
    triggers.show_summary(results)
    draw(results, options.path)
    print(
        f"\nPicture written: {options.path.name}, {options.path.stat().st_size / 1000:.0f} kB"
    )
