"""What all commands share: flags, help that is instant, errors without tracebacks."""

import importlib
import os
import sys
import tempfile
import textwrap
import traceback
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from ood_keras import conventions


def new_flags() -> flags.FlagValues:
    """Returns the flags of one command.

    They are the command's own, so that several commands can be imported together.
    """
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "Show this help.", flag_values=values)
    flags.DEFINE_bool(
        "traceback", False, "On an error, show where it arose.", flag_values=values
    )
    flags.DEFINE_list(
        "plugin",
        [],
        "Python modules of your own, by name, that register detectors, metrics, data "
        "sources, augmentations, renderings, training methods or threshold methods; "
        "see docs/guides/extend.md.",
        flag_values=values,
    )
    return values


def define_threshold(flag_values: flags.FlagValues) -> Callable[[], dict[str, Any]]:
    """Defines the flags that say which threshold, or which several, to choose.

    Returns:
        A function that reads the parsed flags: the arguments of the workflow.
    """
    flags.DEFINE_float(
        "target_acceptance",
        None,
        "Share of known images to accept, between 0 and 1. Default: 0.95.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "method",
        None,
        "How the threshold is chosen: conformal, which promises something of new "
        "images; quantile; conformal_per_class, see --per_class; lowest_cost, see "
        "--prior_unknown; or a method that a module of your own registers. Default: "
        "conformal, or quantile where there are too few images for it.",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "per_class",
        False,
        "Short for --method=conformal_per_class: a threshold for each predicted class, "
        "so that each class by itself keeps --target_acceptance. SavedModels decide by "
        "such; TFLite and ONNX do not.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "operating_points",
        None,
        "Other thresholds to offer, each by a name of yours and its share of known "
        "images to accept: strict=0.9,lenient=0.99. Ask for one with ood-predict "
        "--operating_point=strict.",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "prior_unknown",
        None,
        "For --method=lowest_cost: share of the images to come that are unknown, "
        "between 0 and 1.",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "cost_false_accept",
        None,
        "For --method=lowest_cost: what accepting an unknown image costs, in any unit. "
        "Default: 1.",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "cost_false_reject",
        None,
        "For --method=lowest_cost: what rejecting a known image costs, in the same "
        "unit. Default: 1.",
        flag_values=flag_values,
    )
    direct = (
        "target_acceptance",
        "method",
        "prior_unknown",
        "cost_false_accept",
        "cost_false_reject",
    )

    def read() -> dict[str, Any]:
        values = {name: flag_values[name].value for name in direct}
        if flag_values["per_class"].value:
            if values["method"] not in (None, _PER_CLASS):
                raise ValueError(
                    f"--per_class is --method={_PER_CLASS}. Received with it: "
                    f"--method={values['method']}; give one of them"
                )
            values["method"] = _PER_CLASS
        points = flag_values["operating_points"].value
        return {**values, "operating_points": _split_points(points)}

    return read


_PER_CLASS = "conformal_per_class"


def define_export(flag_values: flags.FlagValues) -> Callable[[], dict[str, Any]]:
    """Defines the flags that say what travels with an exported model.

    Returns:
        A function that reads the parsed flags: the arguments of the workflow.
    """
    flags.DEFINE_bool(
        "known_examples",
        True,
        "Some hundred known validation images travel with the model, for ood-demo; "
        "--noknown_examples keeps private ones at home.",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "explain",
        False,
        "The SavedModel gets the signature explain: a heat map of what in an image is "
        "strange, which takes two hundred runs of the network.",
        flag_values=flag_values,
    )
    return lambda: {
        name: flag_values[name].value for name in ("known_examples", "explain")
    }


# What a flag says, and the environment variable that takes it to all who read it.
_VARIABLES = {
    "cache_dir": conventions.CACHE_VARIABLE,
    "memory_gb": conventions.MEMORY_VARIABLE,
}


def define_memory(flag_values: flags.FlagValues) -> None:
    """Defines the flags of commands that read data sets; `run` heeds them."""
    flags.DEFINE_string(
        "cache_dir",
        None,
        "The folder that keeps the decoded pixels of data sets that are too large for "
        f"memory. Default: what the environment variable {conventions.CACHE_VARIABLE} "
        "says, or ~/.cache/ood_keras.",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "memory_gb",
        None,
        "Gigabytes of pixels, of one part of a data set, to keep in memory; more are "
        f"read from disk. Default: what {conventions.MEMORY_VARIABLE} says, or "
        f"{conventions.MOST_GB_IN_MEMORY}.",
        lower_bound=0,
        flag_values=flag_values,
    )


def define_shards(flag_values: flags.FlagValues) -> None:
    """Defines the flags `shards`, `workers` and `engine` of work past one machine."""
    flags.DEFINE_integer(
        "shards",
        None,
        "Cut the images into so many shards. What is made of each is a file that is "
        "made once, so that a run that was killed goes on where it was.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "workers",
        None,
        "How many shards at a time; default: the number of cores, or what the cluster "
        "takes.",
        lower_bound=1,
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "engine",
        "local",
        ["local", "ray"],
        "Who does the shards: processes of this machine, or tasks of Ray, on the "
        "cluster that the environment variable RAY_ADDRESS names.",
        flag_values=flag_values,
    )


def _split_points(text: str | None) -> dict[str, float]:
    """Reads "strict=0.9,lenient=0.99"."""
    points: dict[str, float] = {}
    for part in (text or "").split(",") if text is not None else ():
        name, _, target = part.rpartition("=")
        name = name.strip()
        try:
            number = float(target)
        except ValueError:
            number = None
        if not name or number is None:
            raise ValueError(
                "--operating_points takes names and shares of known images to accept, "
                f"such as strict=0.9,lenient=0.99. Received: {text!r}"
            )
        if name in points:
            raise ValueError(f"--operating_points names {name!r} twice: {text!r}")
        points[name] = number
    return points


def describe_thresholds(path: object, threshold: object) -> str:
    """What the thresholds of a model that was written promise, a paragraph for each.

    Args:
        path: The version folder.
        threshold: What it decides by, a `calibration.Threshold` or `ClassThresholds`.
    """
    points = load("inference.manifest").read(path)["operating_points"]
    others = (f"{name}: {point['guarantee']}" for name, point in points.items())
    return "\n".join([str(threshold), *others])


def describe_verdict(path: object) -> str:
    """The verdict that the manifest of an exported model holds, or nothing.

    Args:
        path: The version folder.
    """
    at_threshold = load("inference.manifest").read(path).get("at_threshold") or {}
    found = at_threshold.get("verdict")
    return load("evaluation.verdict").format_json(found) if found else ""


def repeat_plugins(flag_values: flags.FlagValues) -> str:
    """Returns ` --plugin=NAMES` as it was given, for a next command; else nothing."""
    names = flag_values["plugin"].value
    return f" --plugin={','.join(names)}" if names else ""


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


def run(
    name: str,
    doc: str,
    flag_values: flags.FlagValues,
    main: Callable[[list[str]], None],
    argv: Sequence[str] | None = None,
) -> None:
    """Parses the flags, calls `main(positional_arguments)` and exits.

    Exit status: 0 done, 1 the job failed, 2 the command line is wrong.

    Args:
        name: The command, for messages.
        doc: The text that `--help` shows above the flags.
        flag_values: From `new_flags`.
        main: Called with the positional arguments once the flags are parsed. Heavy
            imports belong inside.
        argv: Arguments with the program's name first; default `sys.argv`.
    """
    argv = list(sys.argv if argv is None else argv)
    if {"-h", "-help", "--help"} & set(argv[1:]):
        print(f"{doc.strip()}\n\nFlags:\n{_flags_help(flag_values)}")
        sys.exit(0)
    try:
        before = {name: flag_values[name].present for name in flag_values}
        positional = flag_values(argv)[1:]
        _check_given_once(flag_values, before)
    except flags.Error as error:
        print(f"{name}: {error}\nTry {name} --help", file=sys.stderr)
        sys.exit(2)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for flag, variable in _VARIABLES.items():
        if flag in flag_values and flag_values[flag].value is not None:
            os.environ[variable] = str(flag_values[flag].value)
    show_warnings(name)
    try:
        if flag_values["plugin"].value:
            # What a plugin says while it is imported is shown, and so comes after this.
            _import_muted("keras")
            load("plugins").load(flag_values["plugin"].value)
        main(positional)
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if flag_values["traceback"].value:
            traceback.print_exc()
        print(f"{name}: error: {str(error) or repr(error)}", file=sys.stderr)
        sys.exit(1)


def _check_given_once(flag_values: flags.FlagValues, before: dict[str, int]) -> None:
    """Raises if a flag of one value was given again: absl would drop the first.

    Args:
        flag_values: The flags, parsed.
        before: How often each was given before that, in the same process.
    """
    for name in sorted(flag_values):
        flag = flag_values[name]
        count = flag.present - before[name]
        if count > 1 and not isinstance(flag, flags.MultiFlag):
            raise flags.IllegalFlagValueError(
                f"--{name} was given {count} times and only the last would count. Give "
                "it once; several values, where it takes them, are separated by commas"
            )


def show_warnings(name: str) -> None:
    """Shows warnings of this package as one line each, without the place in the code.

    Args:
        name: The command, which begins the line.
    """
    shown, usual = set(), warnings.showwarning

    def show(message, category, *arguments, **options):
        if category.__module__.partition(".")[0] != "ood_keras":
            usual(message, category, *arguments, **options)
        elif str(message) not in shown:
            shown.add(str(message))
            print(f"{name}: warning: {message}", file=sys.stderr, flush=True)

    warnings.showwarning = show


def load(name: str) -> types.ModuleType:
    """Returns the module `ood_keras.NAME`, without what TensorFlow prints at first.

    TensorFlow's libraries write about CPU features and missing GPUs to the process's
    error stream before any log level holds; if the import fails, all of it is shown.
    """
    return _import_muted(f"ood_keras.{name}")


def _import_muted(name: str) -> types.ModuleType:
    with tempfile.TemporaryFile() as muted:
        sys.stderr.flush()
        stderr = os.dup(2)
        os.dup2(muted.fileno(), 2)
        try:
            return importlib.import_module(name)
        except BaseException:
            muted.seek(0)
            os.write(stderr, muted.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _flags_help(flag_values: flags.FlagValues) -> str:
    lines = []
    for name in sorted(flag_values):
        flag = flag_values[name]
        value = "" if flag.boolean else f"={name.upper()}"
        default = flag.default
        if isinstance(default, list):
            default = ",".join(default)
        shown = f" Default: {default}." if default not in (None, False, "") else ""
        text = " ".join(flag.help.split()) + shown
        lines.append(f"  --{name}{value}")
        lines.append(
            textwrap.fill(text, 84, initial_indent=" " * 6, subsequent_indent=" " * 6)
        )
    return "\n".join(lines)
