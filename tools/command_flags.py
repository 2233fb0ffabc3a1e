"""The flags of a command: defined in a line each, read as arguments of a workflow."""

import os
from collections.abc import Sequence
from typing import Any

from absl import flags

from ood_keras import conventions, files

# What a flag says, and the environment variable that takes it to all who read it.
_VARIABLES = {
    "cache_dir": conventions.CACHE_VARIABLE,
    "memory_gb": conventions.MEMORY_VARIABLE,
}
_OF_EVERY_COMMAND = ("help", "traceback", "plugin")


def split_specs(text: str | None) -> list[str]:
    """Splits "mnist[0,1],kmnist" at the commas outside brackets."""
    specs, depth = [""], 0
    for character in text or "":
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            specs.append("")
        else:
            specs[-1] += character
    return [spec.strip() for spec in specs if spec.strip()]


class _SpecsParser(flags.ArgumentParser):
    """Reads names of data sources with commas between them."""

    def parse(self, argument: str | list[str]) -> list[str]:
        return argument if isinstance(argument, list) else split_specs(argument)


class _LocalPathParser(flags.ArgumentParser):
    """Reads a path to write to, which has to be on this machine."""

    def parse(self, argument: str) -> str:
        files.check_local(argument)
        return argument


class Flags(flags.FlagValues):
    """The flags of one command.

    They are the command's own, so that several commands can be imported together. A
    flag is called as the argument of the workflow that it fills, and its value is read
    as an attribute: after `flags.add_output("run_dir", "A run of ood-train.")` and
    parsing it is `flags.run_dir`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.add_bool("help", "Show this help.")
        self.add_bool("traceback", "On an error, show where it arose.")
        self.add_list(
            "plugin",
            "Python modules of your own, by name, that register detectors, metrics, "
            "data sources, augmentations, renderings, training methods or threshold "
            "methods; see docs/guides/extend.md.",
            [],
        )

    def add_string(
        self, name: str, text: str, default: str | None = None, required: bool = False
    ) -> None:
        """Defines a flag whose value is a text; `text` is what `--help` says of it."""
        flags.DEFINE_string(name, default, text, flag_values=self, required=required)

    def add_output(
        self, name: str, text: str, default: str | None = None, required: bool = False
    ) -> None:
        """Defines a flag of a file or folder to write to; a URL is refused."""
        flags.DEFINE(
            _LocalPathParser(), name, default, text, flag_values=self, required=required
        )

    def add_bool(self, name: str, text: str, default: bool | None = False) -> None:
        """Defines a flag that is given, as `--name` or `--noname`, or not."""
        flags.DEFINE_bool(name, default, text, flag_values=self)

    def add_float(self, name: str, text: str) -> None:
        """Defines a flag whose value is a number; `None` if it is not given."""
        flags.DEFINE_float(name, None, text, flag_values=self)

    def add_integer(
        self, name: str, text: str, default: int | None = None, **bounds: Any
    ) -> None:
        """Defines a flag of a whole number; see `absl.flags.DEFINE_integer`."""
        flags.DEFINE_integer(name, default, text, flag_values=self, **bounds)

    def add_enum(
        self, name: str, text: str, values: Sequence[str], default: str | None = None
    ) -> None:
        """Defines a flag whose value is one of `values`."""
        flags.DEFINE_enum(name, default, [*values], text, flag_values=self)

    def add_list(self, name: str, text: str, default: list[str] | None = None) -> None:
        """Defines a flag of several texts with commas between them."""
        flags.DEFINE_list(name, default, text, flag_values=self)

    def add_repeated(
        self, name: str, text: str, default: list[str] | None = None
    ) -> None:
        """Defines a flag that may be given several times, for a text each."""
        flags.DEFINE_multi_string(name, default, text, flag_values=self)

    def add_specs(self, name: str, text: str, *, required: bool = False) -> None:
        """Defines a flag of data sources with commas between them; a list of them."""
        default: list[str] | None = None if required else []
        flags.DEFINE(
            _SpecsParser(), name, default, text, flag_values=self, required=required
        )

    def add_data_dir(self, default: str = "") -> None:
        """Defines `data_dir`, and what is kept of data sets in memory and on disk.

        Args:
            default: What the help says is taken without `data_dir`.
        """
        ending = f"; default: {default}." if default else "."
        self.add_string("data_dir", f"The folder that holds the data sets{ending}")
        self.add_output(
            "cache_dir",
            "The folder that keeps the decoded pixels of data sets that are too large "
            "for memory. Default: what the environment variable "
            f"{conventions.CACHE_VARIABLE} says, or ~/.cache/ood_keras.",
        )
        self.add_float(
            "memory_gb",
            "Gigabytes of pixels, of one part of a data set, to keep in memory; more "
            f"are read from disk. Default: what {conventions.MEMORY_VARIABLE} says, or "
            f"{conventions.MOST_GB_IN_MEMORY}.",
        )

    def add_background(self, more: str = "") -> None:
        """Defines `background`; `more` ends the sentence of its help."""
        self.add_string(
            "background",
            "What transparent pixels of picture files are laid on: white, black, or a "
            f"grey level from 0 to 255{more}.",
            "white",
        )

    def add_renderings(self, default: str = "short") -> None:
        """Defines `renderings`, how many of them are measured."""
        self.add_enum(
            "renderings",
            "Renderings of the test images to measure: none, one mild strength of each "
            "sort on 500 images of each source, or every strength on 1,000.",
            ["none", "short", "full"],
            default,
        )

    def add_training(self) -> None:
        """Defines what is trained, on what: the arguments of `workflows.train`."""
        self.add_string("known", "The source of the known classes.", required=True)
        self.add_specs(
            "unknown",
            "The sources of unknown images to train with, separated by commas; none "
            "for a recipe whose loss learns from known images alone.",
        )
        self.add_data_dir()
        self.add_list(
            "image_shape",
            "HEIGHT,WIDTH,CHANNELS to convert all images to, with 1 or 3 channels, "
            "such as 32,32,3; default: those of the known images, which then must have "
            "one size.",
        )
        self.add_background("; kept with the run and the exported model")
        self.add_string(
            "recipe",
            "robust (drawings and characters) or robust_wide (things), which learn "
            "from images in random renderings: more blurred, thicker, turned, in other "
            "contrast; fast and wide, the same without renderings, in less time, for "
            "benchmarks whose test images are scanned alike; paper (section 3.6: 150 "
            "epochs); demo (seconds). For photographs: photos, on features of a "
            "--backbone, and photos_scratch, a small residual network from random "
            "weights. Default: photos with a --backbone, else robust or robust_wide, "
            "by what the known images look like.",
        )
        self.add_repeated(
            "override",
            "A field of the recipe to change, such as epochs=2, filters=[16,32] or "
            "augment=none.",
            [],
        )
        self.add_string(
            "backbone",
            "A network of keras.applications to begin with, such as MobileNetV2, "
            "EfficientNetV2B0 or MobileNetV2:alpha=0.35; or, with KerasHub installed, "
            "keras_hub:NAME of a preset or keras_hub:FOLDER. It is frozen and what is "
            "on top of it trains on its features, which are computed once; "
            "--override=fine_tune_epochs=5 then trains all of it in the last epochs.",
        )
        self.add_string(
            "backbone_weights",
            "Weights of the backbone: imagenet, which are downloaded once, or come "
            "with a preset of KerasHub (the default); a .weights.h5, .h5 or .keras "
            "file; or none for random ones.",
        )
        self.add_enum(
            "mixed_precision",
            "What the network computes in while it trains: faster on GPUs made for it. "
            "Weights and losses stay float32, and so does all that is measured and "
            "exported. Kept with the run.",
            ["bfloat16", "float16", "none"],
        )
        self.add_string(
            "class_weight",
            "balanced, so that classes of few images count as much as others; or "
            "weights of classes in the loss by name, as in rose=2,tulip=0.5, the "
            "others being 1.",
        )
        self.add_bool(
            "skip_bad",
            "Of pictures in files, leave out those that would spoil the result, and "
            "count them in run.json and the report: those that cannot be read, and "
            "copies of one picture under several labels, in several splits, or known "
            "and unknown. Without it, training stops at them and names them all. See "
            "ood-data.",
        )
        self.add_repeated(
            "group_by",
            "What makes pictures in files belong together, so that all of them are "
            "in one split: copies, equal or nearly equal pictures (the default); "
            "folder, folders of one name within the class folders; or a regular "
            "expression with one group, such as 'patient(\\d+)_', whose text their "
            "names share. May be given several times. none deals pictures out one by "
            "one. Ignored where there are folders or files for train, validation and "
            "test.",
        )
        self.add_integer("seed", "Decides everything.", 0)

    def add_thresholds(self) -> None:
        """Defines which threshold to choose, or which several.

        `workflows.thresholds.read_flags` makes arguments of a workflow of them.
        """
        self.add_float(
            "target_acceptance",
            "Share of known images to accept, between 0 and 1. Default: 0.95.",
        )
        self.add_string(
            "method",
            "How the threshold is chosen: conformal, which promises something of new "
            "images; quantile; conformal_per_class, see --per_class; lowest_cost, see "
            "--prior_unknown; or a method that a module of your own registers. "
            "Default: conformal, or quantile where there are too few images for it.",
        )
        self.add_bool(
            "per_class",
            "Short for --method=conformal_per_class: a threshold for each predicted "
            "class, so that each class by itself keeps --target_acceptance. "
            "SavedModels decide by such; TFLite and ONNX do not.",
        )
        self.add_string(
            "operating_points",
            "Other thresholds to offer, each by a name of yours and its share of known "
            "images to accept: strict=0.9,lenient=0.99. Ask for one with ood-predict "
            "--operating_point=strict.",
        )
        self.add_float(
            "prior_unknown",
            "For --method=lowest_cost: share of the images to come that are unknown, "
            "between 0 and 1.",
        )
        self.add_float(
            "cost_false_accept",
            "For --method=lowest_cost: what accepting an unknown image costs, in any "
            "unit. Default: 1.",
        )
        self.add_float(
            "cost_false_reject",
            "For --method=lowest_cost: what rejecting a known image costs, in the same "
            "unit. Default: 1.",
        )

    def add_exported(self) -> None:
        """Defines what travels with an exported model."""
        self.add_bool(
            "known_examples",
            "Some hundred known validation images travel with the model, for ood-demo; "
            "--noknown_examples keeps private ones at home.",
            default=True,
        )
        self.add_bool(
            "explain",
            "The SavedModel gets the signature explain: a heat map of what in an image "
            "is strange, which takes two hundred runs of the network.",
        )

    def add_shards(self) -> None:
        """Defines `shards`, `workers` and `engine` of work past one machine."""
        self.add_integer(
            "shards",
            "Cut the images into so many shards. What is made of each is a file that "
            "is made once, so that a run that was killed goes on where it was.",
            lower_bound=1,
        )
        self.add_integer(
            "workers",
            "How many shards at a time; default: the number of cores, or what the "
            "cluster takes.",
            lower_bound=1,
        )
        self.add_enum(
            "engine",
            "Who does the shards: processes of this machine, or tasks of Ray, on the "
            "cluster that the environment variable RAY_ADDRESS names.",
            ["local", "ray"],
            "local",
        )

    def read_arguments(self, *left_out: str) -> dict[str, Any]:
        """Returns the values by name, without those that every command has.

        Args:
            left_out: Names of flags to leave out too.
        """
        left = {*_OF_EVERY_COMMAND, *_VARIABLES, *left_out}
        return {name: self[name].value for name in self if name not in left}

    def set_environment(self) -> None:
        """Sets the environment variables that flags of `add_data_dir` stand for."""
        for name, variable in _VARIABLES.items():
            if name in self and self[name].value is not None:
                os.environ[variable] = str(self[name].value)

    def repeat_plugins(self) -> str:
        """Returns ` --plugin=NAMES` as given, for a next command; else nothing."""
        names = self["plugin"].value
        return f" --plugin={','.join(names)}" if names else ""
