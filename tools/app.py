"""What all commands share: help that is instant, errors without tracebacks."""

import importlib
import os
import platform
import sys
import tempfile
import textwrap
import traceback
import types
import warnings
from collections.abc import Callable, Sequence

from absl import flags

from ood_keras.tools.command_flags import Flags


def run(
    name: str,
    doc: str,
    flag_values: Flags,
    main: Callable[..., None],
    argv: Sequence[str] | None = None,
    *,
    takes_paths: bool = False,
    trains: bool = False,
) -> None:
    """Parses the flags, calls `main()` or `main(positional_arguments)` and exits.

    Exit status: 0 done, 1 the job failed, 2 the command line is wrong.

    Args:
        name: The command, for messages.
        doc: The text that `--help` shows above the flags.
        flag_values: The command's flags.
        main: Called once the flags are parsed. Heavy imports belong inside.
        argv: Arguments with the program's name first; default `sys.argv`.
        takes_paths: Whether `main` is called with a list of the positional arguments.
            Without it, there must be none.
        trains: Whether networks are trained, so that training has to be fast.
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
    if trains:
        _use_onednn()
    flag_values.set_environment()
    show_warnings(name)
    try:
        if flag_values["plugin"].value:
            # What a plugin says while it is imported is shown, and so comes after this.
            _import_muted("keras")
            load("plugins").load(flag_values["plugin"].value)
        if takes_paths:
            main(positional)
        elif positional:
            raise ValueError(f"{name} takes flags only; received: {positional}")
        else:
            main()
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if flag_values["traceback"].value:
            traceback.print_exc()
        print(f"{name}: error: {str(error) or repr(error)}", file=sys.stderr)
        sys.exit(1)


def _use_onednn() -> None:
    """Has TensorFlow compute with oneDNN on x86, unless the environment says otherwise.

    By itself it does so only on processors with instructions made for networks, such as
    AVX512-VNNI; on others training takes about twice as long without
    (benchmarks/onednn.py). It reads the variable while it is imported.
    """
    if platform.machine() in ("x86_64", "AMD64") and "tensorflow" not in sys.modules:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def _check_given_once(flag_values: Flags, before: dict[str, int]) -> None:
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


def _flags_help(flag_values: Flags) -> str:
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
