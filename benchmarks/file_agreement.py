"""Whether training, edge and graph read the same image files: 20,000 of every kind.

  python benchmarks/file_agreement.py --output=benchmarks/results/file_agreement.json

Makes PNG and JPEG files chunk by chunk and segment by segment, whole, odd and damaged,
and some that are no images at all (`tests/export/png_variants.py`, `jpeg_variants.py`,
`malformed.py`), and decodes each in three ways: as training reads pictures, as the
runtimes without TensorFlow do, and in the graph of a SavedModel; in the file's own size
and colours, and shrunk or enlarged to a small grey image. It fails at the first
disagreement that is not allowed, and then writes nothing. Allowed are two things:

* "rounded": one level of 255, in an image that was resized or whose colour became grey.
  There a value may lie half way between two levels, and float sums of another order
  round it to the other.
* "behind_the_rows": a PNG of more than 16 KB with something behind its last row, or
  without an end of its zlib stream, which training and edge refuse and the graph reads,
  with the right pixels. TensorFlow unpacks a zlib stream whole or not at all, so the
  graph cannot look whether there is more without making room for all of it.

The result counts what became of each kind of file.
"""

import argparse
import base64
import collections
import json
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/export"))

_PART = 1000


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000, help="files to compare")
    parser.add_argument("--seed", type=int, default=100, help="decides the files")
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.count < 1:
        parser.error(f"--count must be at least 1. Received: {arguments.count}")
    # After the flags, so that --help is instant.
    import file_agreement
    import PIL
    import tensorflow as tf
    from PIL import features

    from ood_keras.files import write_json

    start, counts = time.monotonic(), collections.defaultdict(collections.Counter)
    # Two backgrounds; parts, so that a disagreement shows early.
    for part, first in enumerate(range(0, arguments.count, _PART)):
        some, disagreements = file_agreement.compare(
            min(_PART, arguments.count - first),
            arguments.seed + part,
            background=(255, 77)[part % 2],
        )
        if disagreements:
            for kind, content, what in disagreements[:20]:
                print(f"{kind}: {what}\n  {base64.b64encode(content[:3000]).decode()}")
            sys.exit(f"{len(disagreements)} files of part {part} are not read alike")
        for kind, counted in some.items():
            counts[kind].update(counted)
    result = {
        "files": arguments.count,
        "seed": arguments.seed,
        "disagreements": 0,
        "seconds": round(time.monotonic() - start, 1),
        "versions": {
            "tensorflow": tf.__version__,
            "pillow": PIL.__version__,
            "pillow's libjpeg-turbo": features.version("libjpeg_turbo"),
            "pillow's zlib": features.version("zlib"),
        },
        "outcomes": _total(counts),
        "outcomes_by_kind": {kind: dict(counts[kind]) for kind in sorted(counts)},
    }
    if arguments.output:
        write_json(arguments.output, result)
    print(json.dumps(result, indent=2))


def _total(counts):
    total = collections.Counter()
    for counted in counts.values():
        total.update(counted)
    return dict(total)


if __name__ == "__main__":
    main()
