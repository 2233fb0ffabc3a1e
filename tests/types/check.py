"""Checks the types of an installed package, and what its users write, by mypy.

  MYPYPATH=FOLDER python tests/types/check.py

FOLDER is where the package is installed: a checker does not follow editable
installations. Every line of `wrong_script.py` that says so must be an error.
"""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def run_mypy(*arguments):
    command = [sys.executable, "-m", "mypy", "--cache-dir", "build/mypy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main():
    for arguments in (["-p", "ood_keras"], [str(HERE / "user_script.py")]):
        result = run_mypy(*arguments)
        print(" ".join(arguments), result.stdout, end="")
        if result.returncode:
            sys.exit(result.stdout + result.stderr)
    wrong = HERE / "wrong_script.py"
    lines = wrong.read_text().splitlines()
    expected = {n for n, line in enumerate(lines, 1) if line.endswith("# error")}
    output = run_mypy(str(wrong)).stdout
    found = {int(number) for number in re.findall(r":(\d+): error", output)}
    if found != expected:
        sys.exit(
            f"mistakes in the lines {sorted(expected)} of {wrong} should be found; "
            f"found were those in {sorted(found)}:\n{output}"
        )
    print(f"{wrong}: all {len(expected)} mistakes are found")


if __name__ == "__main__":
    main()
