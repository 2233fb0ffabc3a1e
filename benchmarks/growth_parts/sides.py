"""What the parts share: sides in processes of their own, and a drawing of rows."""

import json
import os
import resource
import statistics
import subprocess
import sys

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def powers(first, last):
    """The powers of ten from `first` to `last`, both included."""
    return [10**power for power in range(len(str(first)) - 1, len(str(last)))]


def run_alone(script, side, arguments):
    """What `measure` returns, in a fresh process with one thread."""
    command = [sys.executable, script, *arguments, f"--side={side}"]
    output = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ONE_THREAD},
    ).stdout
    return json.loads(output.splitlines()[-1])


def measure(evaluate, sizes, most_repeated=10**6):
    """`{size: row}` of a side, in this process, after a warm-up.

    Args:
        evaluate: A function of a size that returns a row with `seconds`.
        sizes: How many of whatever is counted, growing.
        most_repeated: Up to this size, the median of three rounds is taken.
    """
    evaluate(1000)
    before, rows = peak_mebibytes(), {}
    for size in sizes:
        rounds = [evaluate(size) for _ in range(3 if size <= most_repeated else 1)]
        rows[str(size)] = {
            **rounds[0],
            "seconds": round(statistics.median(one["seconds"] for one in rounds), 5),
            "mebibytes": round(peak_mebibytes() - before, 1),
        }
    return rows


def peak_mebibytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw(found, titles, xlabel):
    """Draws rows against their sizes, on logarithmic axes.

    Args:
        found: `{side: {size: row}}`.
        titles: `{key of a row: title}`, one picture for each.
        xlabel: What the sizes count.
    """
    from matplotlib.figure import Figure

    from ood_keras.evaluation import style

    figure = Figure(figsize=(1.5 + 3.6 * len(titles), 3.2), layout="constrained")
    markers = "osv^Dx+*<>"
    for axes, (key, title) in zip(
        figure.subplots(1, len(titles)), titles.items(), strict=True
    ):
        for number, side in enumerate(found):
            rows = {size: row for size, row in found[side].items() if key in row}
            # A logarithm wants more than nothing; less than this is none.
            values = [
                max(row[key], 0.1 if key == "mebibytes" else 1e-4)
                for row in rows.values()
            ]
            axes.loglog(
                [int(size) for size in rows],
                values,
                marker=markers[number % len(markers)],
                color=style.SOURCES[number % len(style.SOURCES)],
                label=side.replace("_", " "),
            )
        axes.set(xlabel=xlabel, title=title)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize="small")
    return figure
