"""From a folder of photographs to a model that rejects: each command, timed.

  python benchmarks/photographs_try.py --pictures=DATA/flowers/images.zip \\
      --unknown=sunflower --backbone=MobileNet:alpha=0.25 \\
      --backbone_weights=small.weights.h5 \\
      --output=benchmarks/results/photographs_try.json

What `docs/guides/photographs.md` says, in its order, on a zip of class folders of which
one is held out as unknown. The seconds are those of the clock and those that the
processor worked, since the machine may have been shared; the weights, see
`pretrain_backbone.py`, are not timed.
"""

import argparse
import json
import os
import pathlib
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile

from ood_keras.files import write_json
from ood_keras.machine import num_cores


def prepare(archive, unknown, folder):
    """Unpacks the pictures: all classes but one are known."""
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            part = "unknown" if name.startswith(f"{unknown}/") else "known"
            if not name.endswith("/"):
                path = folder / "PICTURES" / part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(file.read(name))
    new = folder / "NEW_PICTURES"
    new.mkdir()
    for part in ("known", "unknown"):
        for path in sorted((folder / "PICTURES" / part).rglob("*.jpg"))[:200]:
            shutil.copy(path, new / f"{part}_{path.name}")


def list_commands(arguments):
    return [
        "ood-data --known=folder:PICTURES/known --unknown=folder:PICTURES/unknown "
        "--output=audit",
        "ood-train --known=folder:PICTURES/known --unknown=synthetic "
        f"--image_shape=128,128,3 --backbone={arguments.backbone} "
        "--backbone_weights=backbone.weights.h5 --skip_bad --run_dir=runs/mine",
        "ood-evaluate --run_dir=runs/mine --unknown=folder:PICTURES/unknown",
        "ood-export --run_dir=runs/mine --output=saved_models/mine",
        "ood-convert --model=saved_models/mine/1 --output=edge/mine --formats=float32",
        "ood-predict --model=saved_models/mine/1 NEW_PICTURES/",
    ]


def run(command, folder):
    """Runs a command as a user would; returns what it took and said at the end."""
    name, *rest = command.split()
    # The command of this environment.
    program = pathlib.Path(sys.executable).parent / name
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        [program, *rest],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (folder / f"{name}.log").write_text(done.stdout + "\n\n" + done.stderr)
    used = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    result = {
        "command": command,
        "exit_status": done.returncode,
        "seconds": round(time.monotonic() - start),
        "processor_seconds": round(used),
    }
    print(json.dumps(result), flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--unknown", required=True)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--backbone_weights", type=pathlib.Path, required=True)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    folder = arguments.folder or pathlib.Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    prepare(arguments.pictures, arguments.unknown, folder)
    shutil.copy(arguments.backbone_weights, folder / "backbone.weights.h5")
    results = []
    for command in list_commands(arguments):
        results.append(run(command, folder))
        # The audit ends with 3 where something would spoil a training.
        if results[-1]["exit_status"] not in (0, 3):
            break
    result = collect(arguments, folder, results)
    print(json.dumps(result, indent=1))
    if arguments.output:
        write_json(arguments.output, result)


def collect(arguments, folder, results):
    """The content of the result file, from what the commands left in the folder."""
    result = {
        "pictures": arguments.pictures.name,
        "unknown": arguments.unknown,
        "commands": results,
        "seconds": sum(one["seconds"] for one in results),
        "processor_seconds": sum(one["processor_seconds"] for one in results),
        "cpus": num_cores(),
        "load": [round(load, 1) for load in os.getloadavg()],
        "machine": platform.machine(),
    }
    described = arguments.backbone_weights.with_name("backbone.json")
    if described.is_file():
        result["backbone"] = json.loads(described.read_text())
    metrics = folder / "runs" / "mine" / "metrics.json"
    if metrics.is_file():
        content = json.loads(metrics.read_text())
        result["selected_detector"] = content["selected_detector"]
        result["accuracy"] = content["known"]["accuracy"]
        result["verdict"] = content["verdict"]
    parity = folder / "edge" / "mine" / "tflite" / "parity.json"
    if parity.is_file():
        result["tflite"] = json.loads(parity.read_text())["files"]
    return result


if __name__ == "__main__":
    main()
