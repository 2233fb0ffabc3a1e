"""What a run saw: its splits and sources, and which unknowns it was shown."""

import dataclasses
import functools
import glob
import json
import pathlib
from collections.abc import Iterable, Sequence, Sized
from typing import Any

from ood_keras import pipelines, transcoding
from ood_keras.pipelines import grouping
from ood_keras.pipelines.sources import listed
from ood_keras.pipelines.sources.spec_name import spec_name
from ood_keras.training import recipes
from ood_keras.types import Dataset, Json, Path
from ood_keras.workflows import run_record

# Exposure images to judge a checkpoint by, of all sources together: twice the known
# ones, within these bounds. Earlier versions took the most, whatever the data.
_FEWEST_OUTLIERS, MOST_OUTLIERS = 500, 5000
_SYNTHETIC = "synthetic"
# Synthetic outliers hold white noise of the same distributions.
_NOISE = ("uniform_noise", "gaussian_noise")
KNOWN_IMAGES = "known_images.npz"
# The setting of a run that says how many outliers judge, where they are fewer.
NUM_OUTLIERS = "validation_outliers"
# The one that says which files are left out, {spec: names}, where some are.
LEFT_OUT = "left_out"
# The one that says what makes pictures belong together, where something does.
GROUP_BY = "group_by"
# The one that lists the formats of pictures that were read of folders; runs without it
# read `transcoding.FIRST_FORMATS`.
FORMATS = "formats"
# The entry of `metrics.json` that names the augmentation which rendered validation
# images, where it is not the one of the recipe.
VALIDATION_AUGMENT = "validation_augment"
# What an evaluation calls images that no augmentation renders.
AS_THEY_ARE = "none"
# Known images on which an export tries what its threshold promises.
NUM_TRIED = 64


@dataclasses.dataclass(frozen=True)
class RunData:
    """The data that a run is measured on, checked not to leak.

    Attributes:
        settings: What `train` recorded, and the seed.
        recipe: That of the run, with the `validation_augment` of this evaluation.
        known: The known source.
        fitting: Its training images as one dataset, in the renderings of the recipe,
            for detectors to learn from.
        known_validation: Its validation split.
        judging: `{"known": ..., "unknown": ...}`, the validation images of the known
            source and of `judges` as datasets, in the renderings of the recipe.
        judges: Specs of the sources whose validation images select and tune.
        tests: `{spec: test split}` of the unknown sources.
        seen: Those of them that training was shown.
        fingerprints: What identifies the test images.
        left_out: Files of unknown sources that this evaluation is without, beside what
            the run left out, `{spec: {name: reason}}`.
    """

    settings: Json
    recipe: recipes.Recipe
    known: pipelines.Source
    fitting: Dataset
    known_validation: pipelines.Split
    judging: dict[str, Dataset | None]
    judges: list[str]
    tests: dict[str, pipelines.Split]
    seen: list[str]
    fingerprints: Json
    left_out: Json


def load_run_data(
    run_dir: pathlib.Path,
    unknown: Sequence[str],
    data_dir: Path | None = None,
    validation_unknown: Sequence[str] | None = None,
    known_source: pipelines.Source | None = None,
    validation_augment: str | None = None,
    left_out: Json | None = None,
) -> RunData:
    """Returns the `RunData` of a finished run; arguments as for `evaluate`.

    `known_source` is the run's known source, where it was opened already; `left_out`
    are files of unknown sources, `{spec: {name: reason}}`, to read these without,
    beside what the run left out; `settings` of the result has both.
    """
    settings = read_settings(run_dir, needs_model=known_source is None)
    if left_out:
        settings[LEFT_OUT] = {**settings.get(LEFT_OUT, {}), **left_out}
    if not settings.get("data"):
        raise ValueError(
            f"{run_dir / 'run.json'} does not say with which data the run was trained "
            "(settings.data), so nobody can tell whether test images were among them. "
            "Put it back as it was, or train again"
        )
    exposed = settings["unknown"]
    # An adopted network was trained with none, but sources were named to judge with.
    judges = settings.get("judges", exposed)
    judges = judges if validation_unknown is None else list(validation_unknown)
    if not judges:
        raise ValueError(
            f"{run_dir} was trained with known images alone, so nothing can select a "
            "detector. Name unknown sources, whose validation images then do, as "
            "--validation_unknown; their test images count as not seen in training"
        )
    data_dir = data_dir or settings["data_dir"]
    known_source = known_source or load_known(settings, data_dir)
    if list(known_source.class_names) != settings["class_names"]:
        raise ValueError(
            f"{run_dir / 'run.json'} has the classes {settings['class_names'][:20]}, "
            f"but {settings['known']} has {list(known_source.class_names)[:20]}: one "
            "of them was changed. Put it back as it was, or train again"
        )
    num_outliers = settings.get(NUM_OUTLIERS, MOST_OUTLIERS)
    judge_sources = load_unknown(
        judges,
        known_source,
        data_dir,
        settings["seed"],
        num_outliers,
        settings,
    )
    test_sources = load_unknown(unknown, known_source, data_dir, recorded=settings)
    known_validation, unknown_validation = take_validation(
        known_source, judge_sources, num_outliers, settings["data"]
    )
    unknown_train = load_shown(settings, known_source, data_dir)
    used = set(find_seen(unknown, [settings["known"], *exposed, *judges]))
    tests = {
        # What is used for nothing else need not be dealt out to train and validation.
        spec: source.test if spec in used else source.whole_test()
        for spec, source in zip(unknown, test_sources, strict=True)
    }
    pipelines.check_roles(
        known={
            "train": known_source.train,
            "validation": known_validation,
            "test": known_source.test,
        },
        unknown={
            "train": unknown_train,
            "validation": unknown_validation,
            "test": list(tests.values()),
        },
    )
    _check_same_data(
        run_dir,
        settings["data"],
        [known_source.train, known_validation, *unknown_train, *unknown_validation],
        [known_source.train, *unknown_train],
    )
    recipe = read_recipe(settings, validation_augment)
    return RunData(
        settings=settings,
        recipe=recipe,
        known=known_source,
        fitting=render(recipe, [known_source.train])[0].dataset(),
        known_validation=known_validation,
        judging=render_validation(recipe, known_validation, unknown_validation),
        judges=judges,
        tests=tests,
        seen=find_seen(unknown, exposed),
        fingerprints=fingerprint([known_source.test, *tests.values()]),
        left_out=left_out or {},
    )


def check_data(run_dir: pathlib.Path, data_dir: Path | None = None) -> None:
    """Raises unless the data that a run was trained and judged with are still the same.

    Test images are not compared.

    Args:
        run_dir: A finished run.
        data_dir: The folder of the data sets; default: that of the run.

    Raises:
        ValueError: a split is another one now.
    """
    settings = read_settings(run_dir)
    data_dir = data_dir or settings["data_dir"]
    known_source = load_known(settings, data_dir)
    num_outliers = settings.get(NUM_OUTLIERS, MOST_OUTLIERS)
    judges = load_unknown(
        settings["unknown"],
        known_source,
        data_dir,
        settings["seed"],
        num_outliers,
        settings,
    )
    known_validation, unknown_validation = take_validation(
        known_source, judges, num_outliers, settings["data"]
    )
    trained = [known_source.train, *load_shown(settings, known_source, data_dir)]
    _check_same_data(
        run_dir,
        settings["data"],
        [known_validation, *unknown_validation, *trained],
        trained,
    )


def load_known(settings: Json, data_dir: Path | None) -> pipelines.Source:
    """Opens the known source of a run as the run did.

    Args:
        settings: What `train` recorded.
        data_dir: The folder of the data sets.
    """
    return load_as_recorded(
        settings["known"],
        settings,
        data_dir=data_dir,
        image_shape=shape_to_load(settings["image_shape"]),
        background=settings.get("background"),
        exif_orientation=settings.get("exif_orientation", False),
    )


def shape_to_load(image_shape: Sequence[int] | None) -> Sequence[int] | None:
    """The shape to bring known images to, or `None` to leave them as they are.

    Nothing is brought to other channels than one or three, so images that have others
    had the shape of the run, or of the model, from the start.

    Args:
        image_shape: That of a run or model, `(height, width, channels)`.
    """
    return image_shape if image_shape and image_shape[2] in (1, 3) else None


def read_evaluated_recipe(run_dir: pathlib.Path, settings: Json) -> recipes.Recipe:
    """Returns the recipe of a run, with the renderings that its evaluation chose in.

    Args:
        run_dir: The run, evaluated or not.
        settings: What `train` recorded.
    """
    path = run_dir / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return read_recipe(settings, metrics.get(VALIDATION_AUGMENT))


def read_recipe(
    settings: Json, validation_augment: str | None = None
) -> recipes.Recipe:
    """Returns the recipe of a run, with validation images in other renderings.

    Args:
        settings: What `train` recorded.
        validation_augment: The augmentation that takes the place of the recipe's;
            "none" leaves the images as they are, `None` is the recipe's own.

    Raises:
        ValueError: no augmentation has this name.
    """
    recipe = recipes.Recipe(**settings["recipe"])
    if validation_augment is None:
        return recipe
    name = None if validation_augment == AS_THEY_ARE else validation_augment
    return dataclasses.replace(recipe, validation_augment=name)


def load_shown(
    settings: Json, known_source: pipelines.Source, data_dir: Path | None
) -> list[pipelines.Split]:
    """The splits of real unknown images that a run was trained with.

    Synthetic ones are left out: they are made anew from known images.

    Args:
        settings: What `train` recorded, and the seed.
        known_source: The run's known source.
        data_dir: The folder of the data sets.
    """
    real = [spec for spec in settings["unknown"] if spec != _SYNTHETIC]
    sources = load_unknown(
        real,
        known_source,
        data_dir,
        settings["seed"],
        recorded=settings,
    )
    recipe = recipes.Recipe(**settings["recipe"])
    return draw_exposure(recipe, sources, known_source, settings["seed"])


def load_unknown(
    specs: Iterable[str],
    known_source: pipelines.Source,
    data_dir: Path | None,
    seed: int = 0,
    num_outliers: int = MOST_OUTLIERS,
    recorded: Json | None = None,
) -> list[pipelines.Source]:
    """Returns the unknown sources, with image shape and background of the known one.

    `seed` decides those that are made and not read; test images never depend on the
    seed of a run. Where fewer than the most outliers judge, `synthetic` makes no more.
    `recorded` says what a run leaves out and keeps together, see `load_as_recorded`.
    """

    def load(spec):
        made = spec == _SYNTHETIC and num_outliers < MOST_OUTLIERS
        return load_as_recorded(
            spec,
            recorded or {},
            data_dir=data_dir,
            image_shape=known_source.image_shape,
            known=known_source,
            seed=seed,
            background=known_source.background,
            **({"count": num_outliers} if made else {}),
            exif_orientation=known_source.exif_orientation,
        )

    return [load(spec) for spec in specs]


def load_as_recorded(spec: str, recorded: Json, **options: Any) -> pipelines.Source:
    """Opens a source, dealt out and without the files that a run left out.

    Args:
        spec: The source.
        recorded: The settings of a run, or what the manifest says about a training.
        **options: Other arguments of `pipelines.load`.
    """
    # What keeps pictures together is of those alone that are listed.
    ways = recorded.get(GROUP_BY, ()) if listed.is_listed(spec) else ()
    options["leave_out"] = recorded.get(LEFT_OUT, {}).get(spec, ())
    options["formats"] = recorded.get(FORMATS, transcoding.FIRST_FORMATS)
    try:
        return pipelines.load(spec, group_by=ways, **options)
    except grouping.NothingGroupedError:
        # Names of other pictures than the run's known ones need not be made alike.
        ways = [way for way in ways if way == grouping.COPIES]
        return pipelines.load(spec, group_by=ways, **options)


def count_outliers(known_validation: Sized) -> int:
    """How many unknown validation images judge beside these known ones."""
    return min(MOST_OUTLIERS, max(_FEWEST_OUTLIERS, 2 * len(known_validation)))


def find_seen(specs: Iterable[str], exposed: Sequence[str]) -> list[str]:
    """Returns the specs whose source was exposed in training, if only in part.

    `emnist/letters` was if `emnist/letters[0-12]` or `tfds:emnist/letters` were, and
    `folder:pictures/test` if `folder:pictures` was, or the other way round. A version,
    as in `tfds:mnist:3.0.1`, or a form, as in `mnist@negative`, makes no other source.
    Of a pattern of files, those count that it finds. Noise was if `synthetic` was.
    """

    def origins(spec):
        prefix, colon, text = spec_name(spec).partition(":")
        if not colon:
            return [(prefix, None)]
        path = pathlib.Path(text).expanduser()
        found = [path] if path.exists() else map(pathlib.Path, glob.glob(str(path)))
        return [(prefix, one.resolve()) for one in list(found) or [path]]

    def overlap(first, second):
        (prefix, path), (other_prefix, other) = first, second
        if prefix != other_prefix or path is None or other is None:
            return first == second
        return path.is_relative_to(other) or other.is_relative_to(path)

    shown = {origin for spec in exposed for origin in origins(spec)}
    made = _NOISE if _SYNTHETIC in exposed else ()
    return [
        spec
        for spec in specs
        if spec_name(spec) in made
        or any(overlap(one, other) for one in origins(spec) for other in shown)
    ]


def read_settings(run_dir: pathlib.Path, needs_model: bool = True) -> Json:
    """Returns what `train` recorded of a finished run, and the seed."""
    path = run_dir / "run.json"
    if not path.is_file() or (needs_model and not run_record.has_model(run_dir)):
        raise FileNotFoundError(
            f"{run_dir} holds no finished run (run.json and model.keras). Run "
            f"ood-train --run_dir={run_dir} first, or again to let it finish"
        )
    run = run_record.read(run_dir)
    return {**run["settings"], "seed": run["seed"]}


def draw_exposure(
    recipe: recipes.Recipe,
    sources: Sequence[pipelines.Source],
    known_source: pipelines.Source,
    seed: int,
) -> list[pipelines.Split]:
    """Returns the unknown splits to train with: real ones drawn, synthetic ones made.

    Validation images are those of `sources`, whatever number of training images a
    recipe makes.
    """
    synthetic = recipe.synthetic_images
    if synthetic is None:
        synthetic = len(known_source.train)
    total = recipe.unknown_images
    if total is None:
        total = round(len(known_source.train) / known_source.num_classes)
    num_real = sum(source.name != _SYNTHETIC for source in sources)
    splits = []
    for source in sources:
        if source.name == _SYNTHETIC:
            made = pipelines.load(
                _SYNTHETIC, known=known_source, seed=seed, count=synthetic
            )
            splits.append(made.train)
        else:
            share = max(1, total // num_real)
            splits.append(source.train.take(min(share, len(source.train)), seed=seed))
    return splits


def take_validation(
    known_source: pipelines.Source,
    unknown_sources: Sequence[pipelines.Source],
    num_outliers: int = MOST_OUTLIERS,
    recorded: Json | None = None,
) -> tuple[pipelines.Split, list[pipelines.Split]]:
    """Returns the known validation split and those of the exposure sources.

    Args:
        known_source: The known source.
        unknown_sources: Those whose images judge.
        num_outliers: How many images judge, of all of these together.
        recorded: The fingerprints of a run: a source that was used there gives the same
            images again, however many sources there were.
    """
    share = max(1, num_outliers // max(1, len(unknown_sources)))
    taken = []
    for source in unknown_sources:
        split = source.validation
        before = (recorded or {}).get(f"{split.source}/{split.role}")
        count = before["images"] if before else share
        taken.append(split.take(min(count, len(split))))
    return known_source.validation, taken


def render_validation(
    recipe: recipes.Recipe,
    known: pipelines.Split,
    unknown: Sequence[pipelines.Split],
) -> dict[str, Dataset | None]:
    """Returns the validation images that choose, as the recipe has them rendered.

    Args:
        recipe: What is trained; its `validation_augment` renders.
        known: The known validation split.
        unknown: The splits of unknown validation images.

    Returns:
        `{"known": ..., "unknown": ...}`, datasets of batches; "unknown" is `None` if
        there are none.
    """
    known, *unknown = render(recipe, [known, *unknown])
    return {"known": known.dataset(), "unknown": concatenate(unknown)}


def render(
    recipe: recipes.Recipe, splits: Sequence[pipelines.Split]
) -> list[pipelines.Split]:
    """Returns splits in the renderings that a recipe chooses by, or as they are."""
    return render_in(recipe.validation_augment, splits)


def render_in(
    augmentation: str | None, splits: Sequence[pipelines.Split]
) -> list[pipelines.Split]:
    """Returns splits in the renderings of an augmentation; as they are of `None`."""
    if augmentation is None:
        return list(splits)
    return [pipelines.augment_once(split, augmentation) for split in splits]


def recorded_augmentation(manifest: Json) -> str | None:
    """The augmentation of the validation images that an export's threshold is of.

    Args:
        manifest: The content of an exported model's manifest, whose `metrics` and
            `training` may have any form.

    Returns:
        Its name; `None` where the images were taken as they are: by recipes without
        one, by those of versions that had none, and by `ood-calibrate`.
    """
    if "recalibrated_from" in manifest:
        return None
    metrics, training = manifest.get("metrics"), manifest.get("training")
    recipe = training.get("recipe") if isinstance(training, dict) else None
    for found in (metrics, recipe):
        if isinstance(found, dict) and isinstance(found.get(VALIDATION_AUGMENT), str):
            name = found[VALIDATION_AUGMENT]
            return None if name == AS_THEY_ARE else name
    return None


def concatenate(splits: Sequence[pipelines.Split]) -> Dataset | None:
    """Returns one dataset of all the splits, one after the other; `None` of none."""
    if not splits:
        return None
    datasets = [split.dataset() for split in splits]
    return functools.reduce(lambda first, second: first.concatenate(second), datasets)


def fingerprint(splits: Iterable[pipelines.Split]) -> Json:
    """Returns what identifies the images and labels of each split."""
    return {
        f"{split.source}/{split.role}": {
            "images": len(split),
            "sha256": split.fingerprint(),
        }
        for split in splits
    }


def _check_same_data(
    run_dir: pathlib.Path,
    recorded: Json,
    splits: Iterable[pipelines.Split],
    trained: Sequence[pipelines.Split],
) -> None:
    """Raises if a split is not the one that the run was trained or selected with.

    Args:
        run_dir: The run.
        recorded: The fingerprints in its `run.json`.
        splits: All splits but the test images.
        trained: Those of `splits` that the run was trained with, known and unknown.
    """
    made = f"{_SYNTHETIC}/"
    expected = {name for name in recorded if name.endswith("/train")}
    expected = {name for name in expected if not name.startswith(made)}
    named = {f"{split.source}/{split.role}" for split in trained}
    if named != expected:
        raise ValueError(
            f"{run_dir / 'run.json'} contradicts itself: by its sources the run was "
            f"trained with {', '.join(sorted(named))}, by its fingerprints of data "
            f"with {', '.join(sorted(expected)) or 'nothing'}. It was changed by hand; "
            "put it back as it was, or train again"
        )
    for name, found in fingerprint(splits).items():
        if name in recorded and found != recorded[name]:
            raise ValueError(
                f"{name} is not the data that {run_dir} was trained with: there were "
                f"{recorded[name]['images']} images with sha256 "
                f"{recorded[name]['sha256'][:12]}..., here are {found['images']} with "
                f"{found['sha256'][:12]}.... Training images could end up among those "
                "that judge the model; give the same --data_dir, or train again"
            )
