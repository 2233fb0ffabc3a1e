"""Runs the tests that rounding may decide, once under each set of OpenBLAS kernels.

    python tests/kernels.py [PYTEST_ARGUMENT...]

Which bits a matrix product ends with depends on the kernels that OpenBLAS takes for the
processor, and so does what is left where equal numbers should cancel. The tests marked
`kernels` (or those that the arguments name) run under each set that this processor
can, the first one also without oneDNN in TensorFlow. What cannot run is skipped, with
the reason.
"""

import os
import pathlib
import subprocess
import sys

# The set, the flag that a processor needs for it, more of the environment.
KERNELS = (
    ("Prescott", "pni", {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    ("Haswell", "avx2", {}),
    ("SkylakeX", "avx512f", {}),
)
USUAL = [
    "-m",
    "kernels",
    "tests/detectors/core_test.py",
    "tests/detectors/fit_data_test.py",
    "tests/detectors/statistics_test.py",
]
_ASK = (
    "import numpy, threadpoolctl\n"
    "print(*{one.get('architecture') for one in threadpoolctl.threadpool_info() "
    "if one['internal_api'] == 'openblas'})"
)


def flags_of_processor(path="/proc/cpuinfo"):
    """What the processor can, a set of words; empty where that is not known."""
    path = pathlib.Path(path)
    lines = path.read_text().splitlines() if path.is_file() else []
    return {
        word
        for line in lines
        if line.startswith("flags")
        for word in line.partition(":")[2].split()
    }


def main(arguments):
    flags, seen, failed = flags_of_processor(), {}, []
    for name, flag, more in KERNELS:
        if flag not in flags:
            print(f"kernels {name}: skipped, the processor has no {flag}", flush=True)
            continue
        environment = {**os.environ, "OPENBLAS_CORETYPE": name, **more}
        found = subprocess.run(
            [sys.executable, "-c", _ASK],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        if not found or found in seen:
            reason = f"NumPy runs those of {seen[found]}" if found else "no OpenBLAS"
            print(f"kernels {name}: skipped, {reason}", flush=True)
            continue
        seen[found] = name
        print(f"kernels {name} ({found}){' without oneDNN' * bool(more)}:", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        if subprocess.call([*command, *(arguments or USUAL)], env=environment):
            failed.append(name)
    if failed:
        print(f"failed under the kernels of: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
