"""How time and memory grow with the data, part by part.

  python benchmarks/growth.py --part=fitting --output=benchmarks/results/growth.json \\
      --picture=docs/images/growth_fitting.png

The parts are `metrics`, `fitting`, `predict`, `training` and `serving`; what each does
is said at the head of its file in `growth_parts/`. A part is measured in one run and
replaces its own result in --output, which has the machine, its load and the versions
of each. `metrics` and `fitting` count seconds of the processor, which another process
on the machine does not take part in, and the highest memory of the process beyond what
it has before its first size; each of their sides is a process of its own with one
thread.
"""

import argparse
import importlib
import json
import pathlib
import sys

from growth_parts import sides
from provenance import provenance

PARTS = ("metrics", "fitting", "predict", "training", "serving")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=PARTS, default="metrics")
    parser.add_argument("--most", type=int, help="the largest size")
    parser.add_argument(
        "--most_held", type=int, help="the largest where all is held, or many files"
    )
    parser.add_argument("--output", type=pathlib.Path, help="JSON file to add to")
    parser.add_argument("--picture", type=pathlib.Path, help="PNG file to write")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    part = importlib.import_module(f"growth_parts.{arguments.part}")
    most = part.MOST if arguments.most is None else arguments.most
    held = part.MOST_HELD if arguments.most_held is None else arguments.most_held
    if arguments.side:
        print(json.dumps(part.measure_side(arguments.side, most, held)))
        return
    result = provenance(*part.PACKAGES)
    if hasattr(part, "measure"):
        result |= part.measure(most, held)
    else:
        given = [f"--part={arguments.part}", f"--most={most}", f"--most_held={held}"]
        result |= part.compare(
            {side: sides.run_alone(__file__, side, given) for side in part.SIDES}
        )
    print(json.dumps(result, indent=2))
    from ood_keras import files

    if arguments.output:
        found = {}
        if arguments.output.exists():
            found = json.loads(arguments.output.read_text())
        files.write_json(arguments.output, {**found, arguments.part: result})
    if arguments.picture:
        figure = part.draw(result)
        with files.atomic_file(arguments.picture) as path:
            figure.savefig(path, format="png")


if __name__ == "__main__":
    sys.exit(main())
