"""What a study wrote, as the generated pages ask for it."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable

from ood_keras.study import summary as study_summary
from ood_keras.types import Json


@dataclasses.dataclass(frozen=True)
class StudyResults:
    """A folder that `ood-study` wrote.

    Attributes:
        folder: Its path.
        summary: What `summary.read` returns of it.
    """

    folder: pathlib.Path
    summary: Json

    @classmethod
    def read(cls, folder: pathlib.Path) -> "StudyResults":
        """Reads a folder, as `summary.read` does."""
        folder = pathlib.Path(folder)
        return cls(folder, study_summary.read(folder))

    def methods(self, *groups: str) -> list[str]:
        """Names of the methods of some groups, in the order of the tables."""
        return [
            name
            for name, method in self.summary["methods"].items()
            if method["group"] in groups
        ]

    def title(self, method: str) -> str:
        """What a method is called in tables."""
        return self.summary["methods"][method]["title"]

    def training(self, method: str) -> str:
        """The name of a method's training."""
        return self.summary["methods"][method]["training"]

    def first_method(self, training: str) -> str:
        """The method whose worst mistakes a training's `examples.npz` keeps."""
        methods = self.summary["methods"].items()
        return next(name for name, one in methods if one["training"] == training)

    def unknowns(self, known: str) -> list[str]:
        """The unknown sources of a known one, in the paper's order."""
        listed = [
            row["unknown"] for row in study_summary.PAPER_OURS if row["known"] == known
        ]
        for by_unknown in self.summary["results"].get(known, {}).values():
            listed += [name for name in by_unknown if name not in listed]
        return listed

    def cell(
        self,
        known: str,
        method: str,
        unknown: str,
        metric: str,
        seeds: Iterable[int] | None = None,
    ) -> Json | None:
        """`{"mean", "std", "values"}`, or `None` where nothing was measured.

        Of the given seeds alone, unless that is `None`.
        """
        by_unknown = self.summary["results"].get(known, {}).get(method, {})
        cell = by_unknown.get(unknown, {}).get(metric)
        return self._of_seeds(cell, known, method, seeds)

    def accuracy(
        self, known: str, method: str, seeds: Iterable[int] | None = None
    ) -> Json | None:
        """Known accuracy as a cell, or `None`."""
        cell = self.summary["known_accuracy"].get(known, {}).get(method)
        return self._of_seeds(cell, known, method, seeds)

    def _of_seeds(
        self, cell: Json | None, known: str, method: str, seeds: Iterable[int] | None
    ) -> Json | None:
        if cell is None or seeds is None:
            return cell
        by_seed = zip(self.seeds(known, method), cell["values"], strict=True)
        values = [value for seed, value in by_seed if seed in seeds]
        return study_summary.spread(values) if values else None

    def interval(self, known: str, method: str, unknown: str) -> Json | None:
        """AUROC of seed 0 with its 95 % interval, or `None` where there is none.

        The interval is that of the test images, by DeLong; another training is not
        allowed for.

        Returns:
            `{"value", "low", "high"}`.
        """
        # Summaries of earlier versions have none.
        intervals = self.summary.get("auroc_intervals", {})
        of_seeds = intervals.get(known, {}).get(method, {}).get(unknown, {})
        if "0" not in of_seeds:
            return None
        (value,) = self.cell(known, method, unknown, "auroc", [0])["values"]  # type: ignore[index]
        low, high = of_seeds["0"]
        return {"value": value, "low": low, "high": high}

    def measured_methods(self, known: str, *groups: str) -> list[str]:
        """The methods of some groups that have results."""
        results = self.summary["results"].get(known, {})
        return [method for method in self.methods(*groups) if results.get(method)]

    def seeds(self, known: str, method: str) -> list[int]:
        """The seeds that a method was measured with."""
        return self.summary["seeds"].get(known, {}).get(method, [])

    def num_seeds(self, method: str) -> str:
        """How many seeds a method has, as text; by known set where these differ."""
        counts = {
            known: len(self.seeds(known, method))
            for known in self.summary["results"]
            if self.seeds(known, method)
        }
        if len(set(counts.values())) == 1:
            return str(next(iter(counts.values())))
        return ", ".join(f"{known} {number}" for known, number in counts.items())

    def is_seen(self, known: str, method: str, unknown: str) -> bool:
        """Whether training was shown other images of an unknown source."""
        return unknown in self.summary["seen"].get(known, {}).get(method, [])

    def run_dir(self, known: str, training: str, seed: int = 0) -> pathlib.Path:
        """The folder of one run."""
        return self.folder / known.replace("/", "_") / training / f"seed_{seed}"

    def shows_synthetic(self, method: str) -> bool:
        """Whether training was shown synthetic outliers."""
        training = self.summary["trainings"][self.training(method)]
        return "synthetic" in training["exposure"]

    def exposure(self, known: str, method: str) -> dict[str, int | None]:
        """`{source: number of images or None}` that training was shown."""
        training = self.training(method)
        for seed in self.seeds(known, method):
            path = self.run_dir(known, training, seed) / "run.json"
            if path.is_file():
                run = json.loads(path.read_text())
                data = run.get("run", {}).get("settings", {}).get("data", {})
                return {
                    source: data.get(f"{source}/train", {}).get("images")
                    for source in run["unknown"]
                }
        return {}
