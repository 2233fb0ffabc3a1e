"""Ratio of `import ood_keras` to `import keras`, and the time of each command's help.

  python benchmarks/start_up.py --output=benchmarks/results/start_up.json

`import ood_keras` is timed with everything that it loads once Keras is there: `import
keras, ood_keras` in a fresh process against `import keras` in another, taking turns.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from ood_keras.files import write_json

COMMANDS = [
    "ood-calibrate",
    "ood-convert",
    "ood-evaluate",
    "ood-export",
    "ood-predict",
    "ood-quickstart",
    "ood-train",
]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def seconds(*command):
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    imports = {"import keras": [], "import keras, ood_keras": []}
    for _ in range(arguments.rounds + 1):
        for code, times in imports.items():
            times.append(seconds(sys.executable, "-c", code))
    # The first turn reads the files from disk.
    medians = {code: statistics.median(times[1:]) for code, times in imports.items()}
    bin_dir = pathlib.Path(sys.executable).parent
    helps = {
        command: statistics.median(
            seconds(bin_dir / command, "--help") for _ in range(3)
        )
        for command in COMMANDS
    }
    result = {
        "import_seconds": {code: round(value, 3) for code, value in medians.items()},
        "import_ratio": round(
            medians["import keras, ood_keras"] / medians["import keras"], 3
        ),
        "help_seconds": {command: round(value, 3) for command, value in helps.items()},
        "rounds": arguments.rounds,
    }
    print(json.dumps(result, indent=2))
    if arguments.output:
        write_json(arguments.output, result)


if __name__ == "__main__":
    main()
