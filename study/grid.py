"""What a study is made of: known sets, trainings, methods, the order of the runs."""

import dataclasses
import fnmatch
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ood_keras import plugins
from ood_keras.pipelines.sources.loading import check_spec
from ood_keras.training import recipes
from ood_keras.types import Json

_FOLDER = re.compile(r"[\w-][\w.-]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """One score of a training.

    Attributes:
        name: The method's name in all results.
        title: The name that a table shows.
        detector: A name of `detectors.names()` or of `other_families.NAMES`.
        description: How the method is used, in a sentence.
    """

    name: str
    title: str
    detector: str
    description: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """One recipe, to be trained on every known set with every seed.

    Attributes:
        name: The training's name, of its folder too.
        methods: The methods that score it.
        exposure: What it is shown as unknown: "real" for the known set's exposure
            source, or a spec such as "synthetic".
        changes: Fields of the recipe that differ from the known set's.
        recipe: Name of a recipe to start from in place of the known set's, or one for
            each known set, `{spec: name}`.
        times_epochs: How many times the epochs of that recipe.
        group: "main", "ablation", "longer", "other families" or "paper",
            which decide the place of it on the pages of Table 1; free elsewhere.
        description: What is particular to it, in a sentence.
    """

    name: str
    methods: tuple[Method, ...]
    exposure: tuple[str, ...] = ("real",)
    changes: Json = dataclasses.field(default_factory=dict)
    recipe: str | Mapping[str, str] | None = None
    times_epochs: int = 1
    group: str = "main"
    description: str = ""

    def __post_init__(self) -> None:
        detectors = [method.detector for method in self.methods]
        if len(set(detectors)) < len(detectors):
            raise ValueError(
                f"each method of the training {self.name!r} needs a detector of its "
                f"own, by which its results are found. Received: {detectors}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """A known set.

    Attributes:
        spec: Its source.
        exposure: Source of the real unknown images.
        test_unknown: Sources of the unknown test images.
        recipe: The recipe that all trainings on it start from.
        name: What results call it; its `spec` where none is given.
    """

    spec: str
    exposure: str
    test_unknown: tuple[str, ...]
    recipe: recipes.Recipe
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.spec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training on one known set with one seed."""

    known: Known
    training: Training
    seed: int
    renderings: Literal["none", "short", "full"] = "none"

    @property
    def name(self) -> str:
        """Such as `mnist/ours/seed_0`; also its place in a folder of results."""
        known = self.known.name.replace("/", "_")
        return f"{known}/{self.training.name}/seed_{self.seed}"

    @property
    def recipe(self) -> recipes.Recipe:
        name = self.training.recipe
        if isinstance(name, Mapping):
            if self.known.spec not in name:
                raise ValueError(
                    f"the training {self.training.name!r} has no recipe for the known "
                    f"set {self.known.spec!r}; it has one for {', '.join(name)}"
                )
            name = name[self.known.spec]
        base = self.known.recipe if name is None else recipes.get(name)
        changes = {
            "epochs": base.epochs * self.training.times_epochs,
            **self.training.changes,
        }
        return dataclasses.replace(base, name=self.training.name, **changes)

    def job(self) -> Json:
        """Everything that decides the run's result, as plain JSON values."""
        unknown = [
            self.known.exposure if source == "real" else source
            for source in self.training.exposure
        ]
        job = {
            "name": self.name,
            "training": self.training.name,
            "known": self.known.spec,
            "unknown": unknown,
            "validation_unknown": unknown or [self.known.exposure],
            "test_unknown": self.known.test_unknown,
            "seed": self.seed,
            "recipe": self.recipe.to_json(),
            "methods": {
                method.name: method.detector for method in self.training.methods
            },
        }
        if self.renderings != "none":
            job["renderings"] = self.renderings
        return json.loads(json.dumps(job))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A grid of runs: every training, on every known set, with every seed.

    A file that defines one as `STUDY` is run by `ood-study --study=FILE.py`.

    Attributes:
        name: The study's name, of its folders too.
        known: The known sets.
        trainings: The trainings, in the order of a table.
        seeds: The seeds; all trainings are run with the first before any with the next.
        order: `(trainings, known sets, seeds)` by name, in place of `seeds`: what is
            run after what, and what is left out.
        protocol: `{topic: sentence}`, what a reader of the results must know.
        against_paper: Whether its results are counted against the paper's Table 1.
        renderings: How much each run measures of test images in other renderings, see
            `evaluation.under_renderings`. With any, what becomes of each unknown class
            is measured, too.

    Raises:
        ValueError: a name is used twice, is no name of a folder, or is not in the grid.

    Example:

    >>> STUDY = study.Study(
    ...     name="blocks",
    ...     known=(
    ...         study.Known(
    ...             spec="digits",
    ...             exposure="glyphs",
    ...             test_unknown=("glyphs", "uniform_noise"),
    ...             recipe=training.recipes.get("demo"),
    ...         ),
    ...     ),
    ...     trainings=(
    ...         study.Training(name="with_block", methods=(ours,)),
    ...         study.Training(
    ...             name="without", methods=(plain,), changes={"block": "none"}
    ...         ),
    ...     ),
    ...     seeds=(0, 1),
    ... )
    """

    name: str
    known: tuple[Known, ...]
    trainings: tuple[Training, ...]
    seeds: tuple[int, ...] = (0,)
    order: tuple[tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]], ...] = ()
    protocol: dict[str, str] = dataclasses.field(default_factory=dict)
    against_paper: bool = False
    renderings: Literal["none", "short", "full"] = "none"

    def __post_init__(self) -> None:
        trainings = [training.name for training in self.trainings]
        specs = [known.name for known in self.known]
        for kind, names in (
            ("known set", specs),
            ("training", trainings),
            ("method", [each.name for one in self.trainings for each in one.methods]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(
                    f"results are found by name, so each {kind} of the study "
                    f"{self.name!r} needs one of its own. Received twice: "
                    f"{', '.join(twice)}"
                )
        for name in (self.name, *trainings):
            if not _FOLDER.fullmatch(name):
                raise ValueError(
                    "the names of a study and of its trainings are those of folders: "
                    f"letters, digits, _, - and . are allowed. Received: {name!r}"
                )
        ordered = {name for names, known, _ in self.order for name in (*names, *known)}
        unknown = sorted(ordered - {*trainings, *specs})
        if unknown:
            raise ValueError(
                f"`order` names {', '.join(unknown)}, which the study {self.name!r} "
                f"has not; its trainings are {', '.join(trainings)}, its known sets "
                f"{', '.join(specs)}"
            )

    def check_names(self, methods: Sequence[str]) -> None:
        """Raises an error for a name that a run would fail at, hours later.

        Args:
            methods: The names that `Method.detector` can be.

        Raises:
            ValueError: a detector or a source is not known here.
        """
        for name, (method, _) in self.methods.items():
            if method.detector not in methods:
                raise plugins.UnknownNameError(
                    f"the method {name!r} of the study {self.name!r} has the unknown "
                    f"detector {method.detector!r}; expected one of: "
                    f"{', '.join(sorted(methods))}"
                )
        shown = [spec for one in self.trainings for spec in one.exposure]
        for known in self.known:
            for spec in (known.spec, known.exposure, *known.test_unknown, *shown):
                if spec != "real":
                    check_spec(spec)

    @property
    def methods(self) -> dict[str, tuple[Method, Training]]:
        """Each method with its training, by name, in the order of a table."""
        return {
            method.name: (method, training)
            for training in self.trainings
            for method in training.methods
        }

    def runs(
        self, only: str | None = None, seeds: Sequence[int] | None = None
    ) -> list[Run]:
        """Returns the runs, the most wanted ones first.

        Args:
            only: Patterns of names with `*` and `?`, separated by commas; a pattern
                without them also takes all that lies below it: `mnist/ours`.
            seeds: The seeds to run; `None` for all.

        Raises:
            ValueError: a pattern or a seed takes no run, or nothing is left; the
                message lists the names.
        """
        known = {each.name: each for each in self.known}
        trainings = {each.name: each for each in self.trainings}
        every = {}
        everything = tuple(
            (tuple(trainings), tuple(known), (seed,)) for seed in self.seeds
        )
        for names, specs, numbers in self.order or everything:
            for seed in numbers:
                for name in names:
                    for spec in specs:
                        run = Run(
                            known=known[spec],
                            training=trainings[name],
                            seed=seed,
                            renderings=self.renderings,
                        )
                        every[run.name] = run
        chosen = [
            run
            for run in every.values()
            if _matches(run.name, only) and (seeds is None or run.seed in seeds)
        ]
        wrong: list[Any] = [
            pattern
            for pattern in (only or "").split(",")
            if pattern.strip() and not any(_matches(name, pattern) for name in every)
        ]
        wrong += sorted(set(seeds or ()) - {run.seed for run in every.values()})
        if wrong or not chosen:
            raise ValueError(
                f"no run of the study {self.name!r} matches "
                f"{', '.join(map(str, wrong)) or f'{only} with the seeds {seeds}'}; "
                f"its runs are: {', '.join(every)}"
            )
        return chosen


def _matches(name: str, only: str | None) -> bool:
    patterns = [pattern.strip() for pattern in (only or "*").split(",")]
    return any(
        fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern}/")
        for pattern in patterns
    )
