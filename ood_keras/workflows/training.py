"""Trains a recipe into a run directory, or resumes it there."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ood_keras import pipelines, training, transcoding
from ood_keras.evaluation import renderings, verdict
from ood_keras.files import write_json
from ood_keras.image_files import BACKGROUND
from ood_keras.names import one_line
from ood_keras.pipelines import grouping
from ood_keras.pipelines.sources import listed
from ood_keras.training import processes, recipes, run_directory
from ood_keras.training.run import find_best
from ood_keras.types import Dataset, ImageShape, Json, Path
from ood_keras.workflows.class_weight import index_classes, read_class_weight
from ood_keras.workflows.data_check import check_data, count_left_out
from ood_keras.workflows.run_data import (
    FORMATS,
    GROUP_BY,
    LEFT_OUT,
    MOST_OUTLIERS,
    NUM_OUTLIERS,
    count_outliers,
    draw_exposure,
    fingerprint,
    load_unknown,
    render_validation,
    take_validation,
)

# What a training comes to by its validation images; of its test images, `metrics.json`
# says that.
VERDICT = "training_verdict.json"


def train(
    *,
    known: str,
    unknown: Sequence[str],
    run_dir: Path,
    recipe: str | recipes.Recipe | None = None,
    data_dir: Path | None = None,
    image_shape: ImageShape | None = None,
    background: int | str | None = BACKGROUND,
    overrides: Iterable[str] = (),
    backbone: str | None = None,
    backbone_weights: Path | None = None,
    mixed_precision: str | None = None,
    class_weight: Mapping[str, float] | str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    group_by: str | Sequence[str] | None = None,
) -> list[Json]:
    """Trains a recipe into `run_dir`, or resumes it there.

    Where the environment has KERAS_DISTRIBUTION_NUM_PROCESSES and its like, this is one
    of several processes that train one model, see `training.join_processes`. Each makes
    the same call.

    Args:
        known: Spec of the known source.
        unknown: Specs of the unknown sources to train with; none for a recipe whose
            loss learns from known images alone.
        run_dir: The folder of the run.
        recipe: Name of a recipe, or a `recipes.Recipe`; `None` is that of the run that
            is resumed, or for a new one "photos" with a backbone, and else "robust"
            for drawings and "robust_wide" for other pictures, see
            `evaluation.renderings.kind_of`.
        data_dir: The folder of the data sets.
        image_shape: `(height, width, channels)` to convert all images to; default: the
            known source's own.
        background: What transparent pixels of picture files are laid on, see
            `pipelines.load`; evaluation and export keep to it.
        overrides: `field=value` strings that change the recipe.
        backbone: A network of `keras.applications` to begin with, such as "MobileNetV2"
            or "MobileNetV2:alpha=0.35"; `None` is what the recipe says.
        backbone_weights: Its weights: "imagenet", a file (see `models.transfer`) or
            "none" for random ones; `None` is what the recipe says.
        mixed_precision: "bfloat16" or "float16", which the network computes in, or
            "none"; `None` is that of the run that is resumed, or what the recipe says.
        class_weight: Weights of known classes in the loss, by name, as a dict or as the
            text "rose=2,tulip=0.5"; "balanced" weighs all classes alike, however many
            images they have. Those that are not named weigh 1, as unknown images do.
        seed: Decides everything.
        skip_bad: Whether to leave out files that would spoil the result, see
            `data_check.check_data`, and to list them in `run.json` and in the report,
            in place of stopping at them.
        group_by: What makes pictures of folders belong together, so that all of them
            are in one split, see `pipelines.load`: "copies", "folder", a regular
            expression with one group, or several. `None` is "copies"; "none" deals
            pictures out one by one.

    Returns:
        The history that `training.fit` returns.

    Raises:
        ValueError: nothing to train with, leaking splits, an unknown recipe or field.
    """
    processes.join_if_told()
    # A process beside the first has a folder of its own, maybe on another machine.
    own_dir = processes.choose_folder(run_dir)
    weights = read_class_weight(class_weight)
    changes = parse_overrides(overrides)
    for field, value in (
        ("backbone", backbone),
        ("backbone_weights", backbone_weights and str(backbone_weights)),
        ("mixed_precision", mixed_precision),
    ):
        if value is None:
            continue
        if field in changes:
            raise ValueError(
                f"--{field} and --override={field} say the same; give one of them"
            )
        changes[field] = None if value == "none" else value
    recorded_recipe = (_read_recorded(own_dir) or {}).get("recipe")
    if isinstance(recorded_recipe, dict) and "mixed_precision" in recorded_recipe:
        changes.setdefault("mixed_precision", recorded_recipe["mixed_precision"])
    is_chosen_by_data = False
    if recipe is None:
        recipe = _read_recorded_recipe(own_dir)
        is_chosen_by_data = recipe is None
        if is_chosen_by_data and changes.get("backbone"):
            recipe, is_chosen_by_data = WITH_BACKBONE, False
        recipe = recipe or _FOR_DRAWINGS
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.get(recipe, **changes)
    elif changes:
        recipe = dataclasses.replace(recipe, **changes)
    objective = recipe.objective
    outputs = objective.outputs
    if objective.shows_unknown and not unknown:
        raise ValueError(
            "no unknown source was given to train with. Name at least one, for example "
            "`emnist/letters`, a folder of your own (`folder:PATH`), or `synthetic`, "
            "which is made from the known images"
        )
    if unknown and not objective.shows_unknown:
        raise ValueError(
            f"the loss {recipe.loss!r} learns from known images alone, so give no "
            f"unknown source. Received: {', '.join(unknown)}"
        )
    training.set_seed(seed)
    background = _read_recorded_background(own_dir, background)
    exif_orientation = _read_recorded_exif_orientation(own_dir)
    left_out = _read_recorded_left_out(own_dir)
    if left_out is None:
        left_out = check_data(known, unknown, background=background, skip_bad=skip_bad)
        if left_out:
            print(f"Left out: {count_left_out(left_out)}.", flush=True)
            for spec, reasons in left_out.items():
                for name, reason in reasons.items():
                    print(f"  {spec}: {one_line(name)} {one_line(reason)}", flush=True)
    group_by = _read_recorded_group_by(own_dir, group_by, [known, *unknown])
    formats = _read_recorded_formats(own_dir)
    known_source = pipelines.load(
        known,
        data_dir=data_dir,
        image_shape=image_shape,
        background=background,
        exif_orientation=exif_orientation,
        leave_out=left_out.get(known, ()),
        group_by=group_by if listed.is_listed(known) else (),
        formats=formats,
    )
    _check_classes(known_source, objective)
    if is_chosen_by_data:
        name, kind = choose_recipe(known_source)
        if name != recipe.name:
            recipe = recipes.get(name, **changes)
            objective = recipe.objective
        print(
            f"Recipe: {name}, since {known} looks like {kind}s; --recipe chooses "
            "another.",
            flush=True,
        )
    num_outliers = _read_recorded_outliers(
        own_dir, count_outliers(known_source.validation)
    )
    recorded = {
        **({LEFT_OUT: left_out} if left_out else {}),
        **({GROUP_BY: group_by} if group_by else {}),
        **({FORMATS: formats} if any(map(listed.is_listed, [known, *unknown])) else {}),
    }
    unknown_sources = load_unknown(
        unknown, known_source, data_dir, seed, num_outliers, recorded
    )
    num_classes = known_source.num_classes
    known_train = known_source.train
    pipelines.check_known(known_train)
    unknown_train = draw_exposure(recipe, unknown_sources, known_source, seed)
    known_validation, unknown_validation = take_validation(
        known_source, unknown_sources, num_outliers
    )
    pipelines.check_roles(
        known={"train": known_train, "validation": known_validation},
        unknown={"train": unknown_train, "validation": unknown_validation},
    )
    data = pipelines.Interleave(
        known_train,
        unknown_train or None,
        num_classes,
        batch_size=recipe.batch_size,
        seed=seed,
        unknown_per_epoch=recipe.unknown_per_epoch if unknown_train else None,
        augment=recipe.augment,
        class_weight=index_classes(weights, known_source.class_names),
    )
    judging = render_validation(recipe, known_validation, unknown_validation)
    model = objective.build_model(known_source.image_shape, num_classes)
    options: dict[str, Any] = {
        "run_dir": run_dir,
        "validation": objective.build_validation(
            model, judging["known"], judging["unknown"]
        ),
        "num_classes": num_classes,
        "seed": seed,
        "settings": {
            "known": known,
            "unknown": list(unknown),
            "data_dir": _read_recorded_data_dir(own_dir, data_dir),
            "image_shape": list(known_source.image_shape),
            **_background_setting(known_source),
            **({"exif_orientation": True} if exif_orientation else {}),
            **recorded,
            "class_names": list(known_source.class_names),
            "recipe": recipe.to_json(),
            "data": fingerprint(
                [known_train, known_validation, *unknown_train, *unknown_validation]
            ),
            **({NUM_OUTLIERS: num_outliers} if num_outliers < MOST_OUTLIERS else {}),
        },
    }

    def wrap(data):
        if recipe.mixup is not None:
            data = training.RegMixup(data, recipe.mixup, seed)
        return data if len(outputs) == 1 else LabelsForEach(data, outputs)

    if recipe.is_pretrained:
        weights = model.get_layer("backbone").get_weights()
        options["settings"]["backbone_sha256"] = _digest(weights)
        history = training.fit_transfer(
            model, data, objective=objective, wrap=wrap, **options
        )
    else:
        objective.compile(model, num_classes, data.steps_per_epoch)
        history = training.fit(
            model, wrap(data), epochs=recipe.epochs, score=objective.score, **options
        )
    judged = judge(history, known_validation, unknown_validation)
    if judged is not None:
        write_json(own_dir / VERDICT, judged.to_json())
    return history


def choose_recipe(known: pipelines.Source) -> tuple[str, str]:
    """The recipe for known images by their look, and what they look like.

    Args:
        known: The source of the known classes.

    Returns:
        The name of a recipe, and one of `evaluation.renderings`' kinds of images.
    """
    kind = renderings.kind_of(known.train.images[:1000])
    return _FOR_PHOTOS if kind == renderings.PHOTO else _FOR_DRAWINGS, kind


def describe_verdict(run_dir: Path) -> str:
    """The verdict of `judge` that a run holds, lines to print; or nothing."""
    path = pathlib.Path(run_dir) / VERDICT
    if not path.is_file():
        return ""
    return verdict.format_json(json.loads(path.read_text(encoding="utf-8")))


def judge(
    history: Sequence[Json],
    known: pipelines.Split,
    unknown: Sequence[pipelines.Split],
) -> verdict.Verdict | None:
    """Returns the verdict on a training by its validation images.

    They chose the epoch, so it can only warn: `ood-evaluate` judges by test images.

    Args:
        history: What `training.fit` returned.
        known: The known validation images.
        unknown: The unknown validation images, of sources that training was shown.

    Returns:
        A `Verdict`; `None` where there is no classifier to judge.
    """
    best = find_best(history)
    if "val_known_accuracy" not in best:
        return None
    images = sum(map(len, unknown))
    passing = best.get("val_fpr95_known_positive")
    kinds = []
    if images and passing is not None:
        kinds = [
            verdict.Kind(
                ", ".join(split.source for split in unknown),
                images=images,
                accepted=round(passing * images),
                auroc=best["val_auroc"],
                seen=True,
            )
        ]
    return verdict.judge(
        verdict.Measured(
            images=len(known),
            right=round(best["val_known_accuracy"] * len(known)),
            largest_class=int(np.bincount(known.labels).max()),
            unknown=kinds,
            on="validation",
        )
    )


_FOR_DRAWINGS, _FOR_PHOTOS, WITH_BACKBONE = "robust", "robust_wide", "photos"


def _check_classes(
    known: pipelines.Source, objective: training.objectives.Objective
) -> None:
    """Raises unless there are as many known classes as the loss can learn from."""
    if known.num_classes < 1:
        raise ValueError(
            f"{known.name} has no known class. In a folder, each sub-folder of "
            "pictures is a class: put pictures of what is to be recognised into one, "
            "and what is to be rejected into a source of its own (--unknown)"
        )
    if known.num_classes == 1 and not objective.unknown_class:
        with_unknown = [
            name
            for name in training.objectives.names()
            if training.objectives.get(name).unknown_class
        ]
        raise ValueError(
            f"{known.name} has one known class, {one_line(known.class_names[0])}, and "
            f"the loss {objective.name!r} only tells known classes apart. Take a loss "
            f"with an unknown class, {' or '.join(with_unknown)}, and --unknown="
            "synthetic if you have no unknown images; or add pictures of another thing "
            "that is to be recognised, in a sub-folder of their own"
        )


def _read_recorded(run_dir: Path) -> Json | None:
    """The settings of a run that is resumed, or `None`."""
    run_dir = pathlib.Path(run_dir)
    # The first part of a training is a run of its own.
    for folder in (run_dir, run_dir / run_directory.FIRST_PART):
        if (folder / "run.json").is_file():
            settings = run_directory.read(folder).get("settings")
            return settings if isinstance(settings, dict) else {}
    return None


def _read_recorded_recipe(run_dir: Path) -> str | None:
    """The name of the recipe of a run that is resumed, or `None`."""
    recipe = (_read_recorded(run_dir) or {}).get("recipe")
    name = recipe.get("name") if isinstance(recipe, dict) else None
    return name if name in recipes.names() else None


def _read_recorded_outliers(run_dir: Path, num_outliers: int) -> int:
    """How many outliers judge: as in the run that is resumed, if there is one."""
    settings = _read_recorded(run_dir)
    return (
        num_outliers if settings is None else settings.get(NUM_OUTLIERS, MOST_OUTLIERS)
    )


def _digest(weights: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


# A recipe with changes keeps its name.
_OVERRIDES = tuple(
    field.name for field in dataclasses.fields(recipes.Recipe) if field.name != "name"
)


def parse_overrides(overrides: Iterable[str]) -> Json:
    """Returns `{"epochs": 2}` for `["epochs=2"]`.

    `None` and `none` say the same as `null` of a field that may be `None`; a block may
    be called "none".
    """
    parsed = {}
    for override in overrides:
        field, separator, value = override.partition("=")
        field, value = field.strip(), value.strip()
        if not separator or not field or not value:
            raise ValueError(
                "an override is FIELD=VALUE, as in epochs=2, with FIELD one of "
                f"{', '.join(_OVERRIDES)}. Received: {override!r}"
            )
        if field in parsed:
            raise ValueError(
                f"the field {field!r} of the recipe is overridden twice: {overrides}. "
                "Give it once"
            )
        if field not in _OVERRIDES:
            raise ValueError(
                f"a recipe has no field {field!r} to override; it has: "
                f"{', '.join(_OVERRIDES)}. Received: {override!r}"
            )
        try:
            parsed[field] = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            is_none = value in ("None", "none") and field in recipes.OPTIONAL
            parsed[field] = None if is_none else value
    return parsed


def _read_recorded_data_dir(run_dir: Path, data_dir: Path | None) -> str | None:
    """Returns the data folder to record; a resumed run keeps the one it has.

    The same data may lie elsewhere by then: the fingerprints tell whether it is.
    """
    settings = _read_recorded(run_dir)
    if settings is not None:
        return settings.get("data_dir")
    return None if data_dir is None else str(data_dir)


def _read_recorded_background(
    run_dir: Path, background: int | str | None
) -> int | str | None:
    """Returns the background to read with: that of a run which is resumed.

    `None` where an earlier version began it, which dropped alpha.
    """
    settings = _read_recorded(run_dir)
    return None if settings is not None and "background" not in settings else background


def _read_recorded_left_out(run_dir: Path) -> Json | None:
    """Returns what a run that is resumed leaves out; `None` for a new run."""
    settings = _read_recorded(run_dir)
    return None if settings is None else settings.get(LEFT_OUT, {})


def _read_recorded_group_by(
    run_dir: Path, group_by: str | Sequence[str] | None, specs: Sequence[str]
) -> list[str]:
    """Returns what keeps pictures together: as in the run that is resumed.

    Copies, in a new run with folders or the like; runs of earlier versions dealt out
    pictures one by one.
    """
    if group_by is not None:
        ways = [group_by] if isinstance(group_by, str) else list(group_by)
        grouping.parse(ways)
        if not any(map(listed.is_listed, specs)):
            raise ValueError(
                "`group_by` (--group_by) groups pictures of folders, zip files and "
                "TFRecord files, and no source is a folder or such a file. Received: "
                f"group_by={ways} for {', '.join(specs)}"
            )
        return [way for way in ways if way != grouping.NONE]
    settings = _read_recorded(run_dir)
    if settings is not None:
        return list(settings.get(GROUP_BY, ()))
    return [grouping.COPIES] if any(map(listed.is_listed, specs)) else []


def _read_recorded_formats(run_dir: Path) -> list[str]:
    """Returns the formats of pictures to read: as in the run that is resumed."""
    settings = _read_recorded(run_dir)
    if settings is None:
        return list(transcoding.formats())
    return list(settings.get(FORMATS, transcoding.FIRST_FORMATS))


def _read_recorded_exif_orientation(run_dir: Path) -> bool:
    """Whether to turn JPEG files: not in a run that an earlier version began."""
    settings = _read_recorded(run_dir)
    return settings is None or settings.get("exif_orientation", False)


def _background_setting(source: pipelines.Source) -> Json:
    """What `run.json` says about it: nothing where alpha was dropped."""
    return {} if source.background is None else {"background": source.background}


class LabelsForEach:
    """Data of a model whose every output has a loss on the same labels."""

    def __init__(self, data: Any, outputs: Sequence[str]) -> None:
        self._data, self._outputs = data, outputs
        self.steps_per_epoch = data.steps_per_epoch

    def get_config(self) -> Json:
        return self._data.get_config()

    def epoch(self, index: int, start_step: int = 0) -> Dataset:
        def each(images, *targets):
            return images, *(dict.fromkeys(self._outputs, part) for part in targets)

        return self._data.epoch(index, start_step).map(each)
