"""Kills the commands in the middle of their work, and looks at what is left.

  python benchmarks/kills.py --output=benchmarks/results/kills.json
  python benchmarks/kills.py --kills=2 --scenarios=fit,convert

Every scenario does its work once without interruption, as the reference, and measures
how long it works: from the first sign of real work (no imports, no start-up) to the
end. Then it is killed by SIGKILL, each time from the start and at another moment: the
working time is cut into as many pieces as there are kills, and each gets one moment at
random. What is left must be whole or absent. The same work is done again to its end,
and must give what the unbroken one gave, bit for bit, with nothing left over.

fit         `training.fit` with a checkpoint after every step
evaluate    `ood-evaluate`
export      `ood-export`
convert     `ood-convert` to TFLite and ONNX
study       `ood-study`, its worker in a process of its own
two         two processes at once, in one run or output; one of them is killed
full_disk   `ood-convert` where no file can grow beyond a random size; not killed

The result says for each how many kills were made, in which phase they hit, how often
the result was whole or absent, which leftovers were found (all of them are gone after
the next run), and how many of the runs that went on ended equal. A file that is there
keeps the scenarios that are not run again; `runs` says which were run together. Where a
scenario is broken, the exit status is 1. Processes are forked from one that has
imported everything and run nothing. Takes nearly two hours on two cores.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import mmap
import multiprocessing
import os
import pathlib
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback

import numpy as np

from ood_keras import files
from ood_keras.training import recipes

RECIPE = recipes.get(
    "demo",
    epochs=3,
    filters=(8, 8),
    hidden_size=16,
    feature_size=16,
    synthetic_images=300,
)
SEED = 5
KNOWN, EXPOSURE, UNKNOWN = "digits", "synthetic", "glyphs"
FORMATS = ("float32", "dynamic_range", "int8", "onnx")
_WARM = (
    "ood_keras.workflows.training",
    "ood_keras.workflows.evaluation",
    "ood_keras.workflows.exporting",
    "ood_keras.workflows.conversion",
    "ood_keras.study.engine",
    "ood_keras.training",
    "ood_keras.export",
)
_PHASE_BYTES = 128
_NOT_BEGUN, _ENDED = "", "ended"
# A process that takes longer than that hangs.
_MOST_SECONDS = 900


class Phase:
    """What a process is at, in a small file that outlives it.

    Args:
        path: The file.
    """

    def __init__(self, path):
        self._path = pathlib.Path(path)
        if not self._path.exists():
            self._path.write_bytes(bytes(_PHASE_BYTES))
        with open(self._path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _PHASE_BYTES)
        self._stack = []

    def read(self):
        return self._memory[:].rstrip(b"\0").decode("utf-8", "replace")

    def write(self, text):
        text = text.encode()[:_PHASE_BYTES]
        self._memory[:] = text.ljust(_PHASE_BYTES, b"\0")

    @contextlib.contextmanager
    def at(self, text):
        self._stack.append(text)
        self.write(text)
        try:
            yield
        finally:
            self._stack.pop()
            if self._stack:
                self.write(self._stack[-1])

    def watch(self, owner, attribute, text):
        """Lets a function, or a context manager, say that it is being run."""
        function = getattr(owner, attribute)

        @functools.wraps(function)
        def told(*arguments, **keywords):
            with self.at(text):
                return function(*arguments, **keywords)

        setattr(owner, attribute, told)

    def watch_files(self):
        """Lets every file and folder that is written say so, from begin to rename."""
        for name, text in (("atomic_file", "writing"), ("atomic_directory", "making")):
            write = getattr(files, name)

            @contextlib.contextmanager
            def told(path, write=write, text=text):
                shown = re.sub(r"\d+", "N", pathlib.Path(path).name)
                with self.at(f"{text} {shown}"), write(path) as temporary:
                    yield temporary

            setattr(files, name, told)
            for module in list(sys.modules.values()):
                if getattr(module, name, None) is write and module is not files:
                    setattr(module, name, told)


# The work, each done by a process of its own.


def fit(phase, folder):
    """Trains on handwritten digits, with a checkpoint after every step."""
    from ood_keras import pipelines, training
    from ood_keras.training import run

    _watch_training(phase)
    phase.watch_files()
    training.set_seed(SEED)
    known = pipelines.load(KNOWN)
    unknown = pipelines.load(EXPOSURE, known=known, count=RECIPE.synthetic_images)
    data = pipelines.Interleave(
        known.train, [unknown.train], known.num_classes, batch_size=96, seed=SEED
    )
    objective = RECIPE.objective
    model = objective.build_model(known.image_shape, known.num_classes)
    objective.compile(model, known.num_classes, data.steps_per_epoch)
    phase.watch(run.TrainingRun, "run_epoch", "within an epoch")
    training.fit(
        model,
        data,
        epochs=RECIPE.epochs,
        run_dir=folder / "run",
        validation=(known.validation.dataset(), unknown.validation.dataset()),
        num_classes=known.num_classes,
        seed=SEED,
        checkpoint_every=0.0,
        progress=False,
    )


def _watch_training(phase):
    from ood_keras.training import run, validation

    phase.watch(validation.Validation, "measure", "validation")
    phase.watch(run.TrainingRun, "save", "gathering a checkpoint")
    phase.watch(run.TrainingRun, "finish", "finishing")


def train(phase, folder):
    """Trains by `ood-train`'s job, for what needs a run."""
    from ood_keras import workflows
    from ood_keras.training import run

    _watch_training(phase)
    phase.watch_files()
    phase.watch(run.TrainingRun, "run_epoch", "within an epoch")
    workflows.train(
        known=KNOWN,
        unknown=[EXPOSURE],
        run_dir=folder / "run",
        recipe=RECIPE,
        seed=SEED,
    )


def evaluate(phase, folder):
    from ood_keras import detectors, evaluation, workflows
    from ood_keras.workflows import evaluation as measuring

    phase.watch_files()
    phase.watch(measuring, "fit_detector", "fitting a detector")
    phase.watch(evaluation, "evaluate", "scoring")
    phase.watch(detectors, "save", "saving a detector")
    phase.watch(evaluation.Report, "save", "between files of the report")
    workflows.evaluate(run_dir=folder / "run", unknown=[UNKNOWN])


def export(phase, folder):
    from ood_keras import export as exporting
    from ood_keras import workflows
    from ood_keras.export import parity, serving

    phase.watch_files()
    phase.watch(serving, "save", "writing the SavedModel")
    phase.watch(parity, "check", "comparing in a fresh process")
    phase.watch(exporting, "saved_model", "exporting")
    workflows.export(run_dir=folder / "run", output=folder / "model")


def convert(phase, folder):
    import ood_keras.export as exporting
    from ood_keras.export import onnx_conversion, tflite_conversion
    from ood_keras.workflows import conversion

    phase.watch_files()
    phase.watch(tflite_conversion._Served, "convert", "converting to TFLite")
    phase.watch(tflite_conversion, "_integer", "converting to int8")
    phase.watch(tflite_conversion, "_store", "writing a TFLite file")
    phase.watch(onnx_conversion, "_convert", "converting to ONNX")
    phase.watch(exporting, "tflite", "comparing TFLite files")
    phase.watch(exporting, "onnx", "comparing the ONNX file")
    conversion.convert(
        model=folder / "model" / "1",
        output=folder / "edge",
        known=KNOWN,
        unknown=(UNKNOWN,),
        formats=FORMATS,
    )


def study(phase, folder):
    from ood_keras.study import engine as study_engine

    phase.watch_files()
    study_engine.run_study(
        make_study(),
        data_dir=None,
        output_dir=folder / "out",
        runs_dir=folder / "runs",
        say=lambda line: None,
    )


def _at_work(folder):
    """What the worker of a killed study was at, by what it had written."""
    done = len(list((folder / "out").rglob("metrics.json")))
    models = len(list((folder / "runs").rglob("model.keras")))
    checkpoints = len({p.parent for p in (folder / "runs").rglob("checkpoints/0*")})
    if done == 2:
        return "writing the last summary"
    if models > done:
        return f"measuring run {done + 1}"
    return f"{'training' if checkpoints > done else 'starting'} run {done + 1}"


def make_study():
    """Two runs of handwritten digits."""
    from ood_keras.study.grid import Known, Method, Study, Training

    def training(name, detector):
        method = Method(name=name, title=name, detector=detector)
        return Training(name=name, methods=(method,), exposure=(EXPOSURE,))

    known = Known(
        spec=KNOWN,
        exposure=EXPOSURE,
        test_unknown=(UNKNOWN, "uniform_noise"),
        recipe=dataclasses.replace(RECIPE, epochs=1),
    )
    return Study(
        name="kills",
        known=(known,),
        trainings=(training("ours", "unknown_probability"), training("other", "msp")),
        order=((("ours", "other"), (KNOWN,), (0,)),),
    )


# What the work left.


def seen_fit(folder):
    """What a finished run computed, all of it by name, as bytes."""
    import keras

    run = folder / "run"
    found = {}
    newest = max((run / "checkpoints").glob("*.npz"))
    with np.load(newest, allow_pickle=False) as archive:
        for name in archive.files:
            if name != "details":
                found[f"checkpoint/{name}"] = archive[name].tobytes()
    model = keras.models.load_model(run / "model.keras")
    for index, array in enumerate(model.get_weights()):
        found[f"model/{index}"] = array.tobytes()
    rows = [line.split(",") for line in (run / "history.csv").read_text().split()]
    seconds = rows[0].index("seconds")
    found["history"] = [row[:seconds] + row[seconds + 1 :] for row in rows]
    found["events"] = sorted(path.name for path in (run / "logs").rglob("*.0*"))
    return found


def seen_evaluate(folder):
    run = folder / "run"
    found = {"metrics": json.loads((run / "metrics.json").read_text())}
    for path in (*run.glob("detectors/*.npz"), run / "scores.npz"):
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                found[f"{path.name}/{name}"] = archive[name].tobytes()
    for path in run.glob("samples/*.png"):
        found[path.name] = path.read_bytes()
    return found


def seen_export(folder):
    from ood_keras.inference import manifest

    (version,) = (folder / "model").iterdir()
    return {**_saved_model(version), "manifest": _plain(manifest.read(version))}


def _saved_model(version):
    found = {"variables": _digest(version / "variables/variables.data-00000-of-00001")}
    for name in ("parity.json", "assets.extra/known_examples.npz"):
        if (version / name).is_file():
            found[name] = _digest(version / name)
    return found


def _plain(content):
    """A manifest without its time, and what follows from it."""
    left_out = ("created", "files", "manifest_sha256", "converted_from")
    return {key: value for key, value in content.items() if key not in left_out}


def seen_convert(folder):
    from ood_keras.inference import manifest, onnx_predictor

    found = {}
    for path in sorted((folder / "edge").rglob("manifest.json")):
        name = path.parent.relative_to(folder).as_posix()
        found[name] = _plain(manifest.read(path.parent))
    for path in (folder / "edge").rglob("model.tflite"):
        found[path.relative_to(folder).as_posix()] = _digest(path)
    for path in (folder / "edge").rglob("model.onnx"):
        model = onnx_predictor.ONNXPredictor(path.parent)
        images = np.random.default_rng(0).random((64, *model.image_shape), np.float32)
        answers = model.predict(images)
        found["onnx scores"] = answers["ood_score"].tobytes()
    for path in (folder / "edge").rglob("parity.json"):
        report = json.loads(path.read_text())
        for name, entry in report["files"].items():
            entry.pop("latency_ms")
            if name == "onnx":  # Constants get other names, each time it is made.
                entry.pop("bytes")
        found[path.relative_to(folder).as_posix()] = report
    return found


def seen_study(folder):
    found = {}
    for path in sorted((folder / "out").rglob("metrics.json")):
        name = path.parent.name + path.parent.parent.name
        found[name] = json.loads(path.read_text())
        with np.load(path.with_name("scores.npz"), allow_pickle=False) as archive:
            for key in archive.files:
                found[f"{name}/{key}"] = archive[key].tobytes()
    summary = json.loads((folder / "out" / "summary.json").read_text())
    found["results"] = summary["results"]
    found["status"] = [run["status"] for run in summary["runs"].values()]
    return found


def _digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Whether what a kill left is whole or absent.


def check_fit(folder):
    """Every file of a run under its own name is whole; says which there are."""
    import keras

    run = folder / "run"
    for path in run.glob("checkpoints/[0-9]*.npz"):
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                archive[name]
    if (run / "run.json").exists():
        json.loads((run / "run.json").read_text())
    if (run / "history.csv").exists():
        text = (run / "history.csv").read_text()
        rows = text.splitlines()
        widths = {row.count(",") for row in rows}
        if not text.endswith("\n") or len(widths) > 1 or len(rows) < 2:
            raise ValueError("history.csv is cut off")
    if not (run / "model.keras").exists():
        return "absent"
    keras.models.load_model(run / "model.keras")
    return "whole"


def check_evaluate(folder):
    run = folder / "run"
    for path in (*run.glob("detectors/[!.]*.npz"), *run.glob("[!.]*.npz")):
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                archive[name]
    for path in run.glob("detectors/[!.]*.json"):
        json.loads(path.read_text())
    if not (run / "metrics.json").exists():
        return "absent"
    seen_evaluate(folder)
    return "whole"


def check_export(folder):
    from ood_keras import export as exporting

    versions = [p for p in (folder / "model").glob("*") if p.name[0] != "."]
    for version in versions:
        exporting.load(version)
    return "whole" if versions else "absent"


def check_convert(folder):
    if not (folder / "edge").exists():
        return "absent"
    if len(seen_convert(folder)) < 10:
        raise ValueError("a part of the output is missing")
    return "whole"


def check_study(folder):
    for path in (folder / "out").rglob("*.json"):
        if path.name[0] != ".":
            json.loads(path.read_text())
    finished = list((folder / "out").rglob("metrics.json"))
    if not finished:
        return "absent"
    for path in finished:
        with np.load(path.with_name("scores.npz"), allow_pickle=False) as archive:
            for name in archive.files:
                archive[name]
    return "whole" if len(finished) == 2 else "some of the runs"


def leftovers(folder):
    """Names of what is under a hidden name, numbers left out."""
    return sorted(
        re.sub(r"\.[0-9a-z_]{8}\.|\d+", ".N.", path.name)
        for path in folder.rglob(".*")
        if path.name != ".lock"
    )


class Sandbox:
    """Where the processes of this benchmark are started and killed.

    Args:
        root: A folder for all of it.
        jobs: How many kills go on at the same time, each on a core of its own.
    """

    def __init__(self, root, jobs):
        self.root = root
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(list(_WARM))
        self._numbers = itertools.count()
        self._references = {}
        self._jobs = jobs

    def start(self, function, folder, **options):
        """Starts a process; returns it, its `Phase` and where it writes errors."""
        number = next(self._numbers)
        phase, error = self.root / f"phase_{number}", self.root / f"error_{number}"
        watched = Phase(phase)
        process = self._processes.Process(
            target=_call, args=(function, phase, error, folder), kwargs=options
        )
        process.start()
        return process, watched, error

    def finish(self, function, folder, **options):
        """Does the work to its end; returns how long it worked.

        Raises:
            RuntimeError: it failed, with the reason.
        """
        process, phase, error = self.start(function, folder, **options)
        begun = self.wait_until_begun(process, phase, folder, function)
        process.join(_MOST_SECONDS)
        if process.exitcode != 0:
            process.kill()
            said = error.read_text() if error.exists() else "no error"
            raise RuntimeError(
                f"{function.__name__} ended with {process.exitcode}: {said}"
            )
        return time.monotonic() - begun

    def wait_until_begun(self, process, phase, folder, function):
        """Waits for the first sign of real work; returns when that was."""
        deadline = time.monotonic() + _MOST_SECONDS
        while process.is_alive() and time.monotonic() < deadline:
            if function is study:
                # The worker's first checkpoint: what came before were its imports.
                if any((folder / "runs").rglob("checkpoints/[0-9]*")):
                    break
            elif phase.read() != _NOT_BEGUN:
                break
            time.sleep(0.002)
        return time.monotonic()

    def each(self, function, *arguments):
        """Calls a function for each of the arguments, some at the same time."""
        with concurrent.futures.ThreadPoolExecutor(self._jobs) as pool:
            return list(pool.map(function, *arguments))

    def reference(self, function, seen, prepare):
        """How long the work takes without interruption, and what it gives."""
        name = function.__name__
        if name not in self._references:
            folder = prepare(self, f"{name}_reference")
            seconds = self.finish(function, folder)
            self._references[name] = seconds, self.judge(seen, folder)
        return self._references[name]

    def judge(self, function, folder):
        """Calls a check in a process of its own, which may load what was written."""
        answer = self.root / f"answer_{next(self._numbers)}"
        process, _, error = self.start(_answer, folder, check=function, answer=answer)
        process.join(_MOST_SECONDS)
        if process.exitcode != 0:
            raise RuntimeError(error.read_text() if error.exists() else "it died")
        return answer.read_text()


def _call(function, phase, error, folder, **options):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    try:
        phase = Phase(phase)
        function(phase, folder, **options)
        phase.write(_ENDED)
    except BaseException:
        # What went wrong may be longer than the files of `limited` may be.
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        pathlib.Path(error).write_text(traceback.format_exc())
        os._exit(1)


def _answer(phase, folder, check, answer):
    found = check(folder)
    if isinstance(found, dict):
        found = {name: _short(value) for name, value in found.items()}
        found = json.dumps(found, sort_keys=True)
    answer.write_text(found)


def _short(value):
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def kill_all(sandbox, scenario, kills, generator, say):
    """Kills one scenario and returns its counts, a dict for JSON."""
    function, seen, check, prepare = scenario
    name = function.__name__
    seconds, reference = sandbox.reference(function, seen, prepare)
    found = _Counts(name, seconds)
    late = []

    def attempt(number, moment):
        for again in range(4):
            folder = prepare(sandbox, f"{name}_{number}_{again}")
            # A process that was faster than the unbroken one is killed earlier.
            delay = seconds * moment * 0.7**again
            process, phase, error = sandbox.start(function, folder)
            begun = sandbox.wait_until_begun(process, phase, folder, function)
            time.sleep(max(0.0, begun + delay - time.monotonic()))
            process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL:
                break
            late.append(number)
            if process.exitcode != 0:
                found.broken.append(error.read_text()[-300:])
        else:
            return 0
        if function is study:
            phase.write(_at_work(folder))
        found.phases[phase.read()] += 1
        found.look(sandbox, check, folder)
        found.resume(sandbox, function, seen, folder, reference)
        say(f"{name}: {number + 1}/{kills} in {phase.read()!r}")
        return 1

    moments = [(number + generator.random()) / kills for number in range(kills)]
    made = sandbox.each(attempt, range(kills), moments)
    return found.result(kills=sum(made), too_late=len(late))


class _Counts:
    """What was found after the kills of one scenario."""

    def __init__(self, name, seconds):
        self.name, self.seconds = name, seconds
        self.phases, self.states = collections.Counter(), collections.Counter()
        self.left = collections.Counter()
        self.broken, self.equal = [], 0

    def look(self, sandbox, check, folder):
        self.left.update(leftovers(folder))
        try:
            self.states[sandbox.judge(check, folder)] += 1
        except RuntimeError as error:
            self.states["broken"] += 1
            self.broken.append(str(error)[-300:])

    def resume(self, sandbox, function, seen, folder, reference):
        """Does the work again, unless it was done, and compares."""
        try:
            done = (folder / "edge").exists() if function is convert else False
            if function is export:
                done = any(p.name[0] != "." for p in (folder / "model").glob("*"))
            if not done:
                sandbox.finish(function, folder)
            result = sandbox.judge(seen, folder)
        except RuntimeError as error:
            self.broken.append(str(error)[-300:])
            return
        if result != reference:
            names = {
                name
                for name in json.loads(result).keys() | json.loads(reference).keys()
                if json.loads(result).get(name) != json.loads(reference).get(name)
            }
            self.broken.append(f"another result: {sorted(names)[:5]}")
        elif not done and leftovers(folder):
            self.broken.append(f"left over: {leftovers(folder)[:5]}")
        else:
            self.equal += 1

    def result(self, **counts):
        return {
            **counts,
            "working_seconds": round(self.seconds, 2),
            "phases": dict(sorted(self.phases.items())),
            "found_after_the_kill": dict(sorted(self.states.items())),
            "leftovers_that_the_next_run_removed": dict(sorted(self.left.items())),
            "resumed_to_equal_results": self.equal,
            "broken": self.broken,
        }


def two_at_once(sandbox, kills, generator, say, prepared):
    """Two processes in one run directory, or for one output; one of them is killed."""
    found = {}
    for function, seen, prepare in (
        (fit, seen_fit, prepared["empty"]),
        (export, seen_export, prepared["evaluated"]),
        (convert, seen_convert, prepared["exported"]),
    ):
        name = function.__name__
        seconds, reference = sandbox.reference(function, seen, prepare)
        counts, refused = _Counts(name, seconds), collections.Counter()
        # The kills are shared among the three.
        share = math.ceil(kills / 3)
        for number in range(share):
            folder = prepare(sandbox, f"two_{name}_{number}")
            first, phase, _ = sandbox.start(function, folder)
            sandbox.wait_until_begun(first, phase, folder, function)
            time.sleep(generator.uniform(0, 0.2) * seconds)
            second, _, error = sandbox.start(function, folder)
            time.sleep(generator.uniform(0, 0.7) * seconds)
            killed = generator.choice([first, second])
            counts.phases[phase.read()] += 1
            killed.kill()
            for process in (first, second):
                process.join(_MOST_SECONDS)
            if second.exitcode == 1:
                kind, last = _last_error(error)
                refused[f"the second: {kind}"] += 1
                if kind not in ("BlockingIOError", "FileExistsError"):
                    counts.broken.append(last)
            elif second.exitcode == 0:
                refused["the second: done, after the first had ended"] += 1
            else:
                refused["the second: killed"] += 1
            counts.resume(sandbox, function, seen, folder, reference)
            say(f"two, {name}: {number + 1}/{share}")
        found[name] = {**counts.result(kills=share), "refused": dict(refused)}
        found[name].pop("found_after_the_kill")
        found[name].pop("leftovers_that_the_next_run_removed")
    return found


def _last_error(path):
    """The kind of the error that ended a process, and its text."""
    text = path.read_text().strip() if path.exists() else ""
    errors = re.findall(r"^[\w.]*(?:Error|Exception)\b.*", text, re.MULTILINE)
    last = errors[-1] if errors else "nothing"
    return last.partition(":")[0], last[-300:]


def limited(phase, folder, limit):
    """`convert` where no file can grow beyond `limit` bytes, as on a full disk."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    convert(phase, folder)


def full_disk(sandbox, tries, generator, say, prepared):
    """Lets conversions fail for want of space, and counts what they say and leave."""
    prepare = prepared["exported"]
    seconds, reference = sandbox.reference(convert, seen_convert, prepare)
    folder = sandbox.root / "convert_reference" / "edge"
    largest = max(path.stat().st_size for path in folder.rglob("*.*"))
    found, said = _Counts("full_disk", seconds), collections.Counter()

    def attempt(number, share):
        folder = prepare(sandbox, f"full_disk_{number}")
        limit = 256 + int((largest - 512) * share)
        process, phase, error = sandbox.start(limited, folder, limit=limit)
        process.join(_MOST_SECONDS)
        found.phases[phase.read()] += 1
        kind, last = _last_error(error)
        said[kind] += 1
        teaches = "free space" in last and str(folder / "edge") in last
        if process.exitcode != 1 or not teaches:
            found.broken.append(f"limit {limit}: {last}")
        if (folder / "edge").exists() or leftovers(folder):
            found.broken.append(f"left over: {leftovers(folder)}")
        found.resume(sandbox, convert, seen_convert, folder, reference)
        say(f"full_disk: {number + 1}/{tries}, {last[:200]}")

    # Up to the largest file, of which only the end is missing then.
    shares = [(number + generator.random()) / tries for number in range(tries)]
    sandbox.each(attempt, range(tries), shares)
    result = found.result(tries=tries)
    for name in (
        "working_seconds",
        "found_after_the_kill",
        "leftovers_that_the_next_run_removed",
    ):
        result.pop(name)
    return {**result, "errors": dict(said)}


def prepare_all(sandbox):
    """Makes what the scenarios start from, once; returns functions that copy it."""
    import shutil

    base = sandbox.root / "base"
    base.mkdir()
    sandbox.finish(train, base)
    trained = shutil.copytree(base, sandbox.root / "trained")
    sandbox.finish(evaluate, base)
    evaluated = shutil.copytree(base, sandbox.root / "evaluated")
    sandbox.finish(export, base)
    exported = sandbox.root / "exported"
    shutil.copytree(base / "model", exported / "model")

    def copy(source):
        def prepare(sandbox, name):
            folder = sandbox.root / name
            if source is None:
                folder.mkdir()
            else:
                shutil.copytree(source, folder)
            return folder

        return prepare

    sources = {
        "empty": None,
        "trained": trained,
        "evaluated": evaluated,
        "exported": exported,
    }
    return {name: copy(source) for name, source in sources.items()}


def run(scenarios, kills, seed, say, jobs=1, write=lambda results: None):
    """Returns the results of some scenarios, for JSON; `write` gets those so far."""
    # One core for each process, so that those beside it do not slow it down.
    for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(name, "1")
    results = {}
    with tempfile.TemporaryDirectory(prefix="ood_keras_kills_") as root:
        sandbox = Sandbox(pathlib.Path(root), jobs)
        prepared = prepare_all(sandbox)
        plain = {
            "fit": (fit, seen_fit, check_fit, prepared["empty"]),
            "evaluate": (evaluate, seen_evaluate, check_evaluate, prepared["trained"]),
            "export": (export, seen_export, check_export, prepared["evaluated"]),
            "convert": (convert, seen_convert, check_convert, prepared["exported"]),
            "study": (study, seen_study, check_study, prepared["empty"]),
        }
        for name in scenarios:
            generator = random.Random(f"{seed} {name}")
            started = time.monotonic()
            if name in plain:
                results[name] = kill_all(sandbox, plain[name], kills, generator, say)
            else:
                function = {"two": two_at_once, "full_disk": full_disk}[name]
                results[name] = function(sandbox, kills, generator, say, prepared)
            say(f"{name}: {time.monotonic() - started:.0f} s")
            write(results)
    return results


SCENARIOS = ("fit", "evaluate", "export", "convert", "study", "two", "full_disk")


def merge(earlier, invocation, results):
    """Adds the results of some scenarios to those of earlier invocations, for JSON.

    Args:
        earlier: What the file holds, or `None`.
        invocation: What one invocation did: `{"scenarios": names, ...}`.
        results: `{scenario: counts}`; these replace earlier ones of the same name.
    """
    earlier = earlier or {"runs": [], "scenarios": {}}
    kept = (
        {**run, "scenarios": [name for name in run["scenarios"] if name not in results]}
        for run in earlier["runs"]
    )
    merged = {**earlier["scenarios"], **results}
    return {
        "runs": [*(run for run in kept if run["scenarios"]), invocation],
        "scenarios": {name: merged[name] for name in SCENARIOS if name in merged},
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="of each scenario")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument(
        "--scenarios",
        default=",".join(SCENARIOS),
        help="some of them, with commas (default: all)",
    )
    parser.add_argument("--jobs", type=int, default=2, help="kills at the same time")
    parser.add_argument("--output", type=pathlib.Path, help="a JSON file to write")
    arguments = parser.parse_args()
    scenarios = arguments.scenarios.split(",")
    if min(arguments.kills, arguments.jobs) < 1 or not set(scenarios) <= set(SCENARIOS):
        parser.error(
            "--kills and --jobs must be positive, and --scenarios some of "
            f"{','.join(SCENARIOS)}"
        )
    earlier = None
    if arguments.output and arguments.output.exists():
        earlier = json.loads(arguments.output.read_text())
    started = time.monotonic()

    def summarise(results):
        invocation = {
            "scenarios": list(results),
            "kills_per_scenario": arguments.kills,
            "seed": arguments.seed,
            "minutes": round((time.monotonic() - started) / 60, 1),
        }
        return merge(earlier, invocation, results)

    def write(results):
        if arguments.output:
            files.write_json(arguments.output, summarise(results))

    results = run(
        scenarios,
        arguments.kills,
        arguments.seed,
        lambda line: print(line, flush=True),
        arguments.jobs,
        write,
    )
    print(json.dumps(summarise(results), indent=2))
    parts = [
        part
        for name, found in results.items()
        for part in (found.values() if name == "two" else [found])
    ]
    sys.exit(1 if any(part["broken"] for part in parts) else 0)


if __name__ == "__main__":
    main()
