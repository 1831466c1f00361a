"""All benchmarks, each in a process of its own: `python -m benchmarks`, or `make bench`.

One that fails stops no other. Exit code 1 if one failed or a row misses its target.
"""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Of all benchmarks."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def main() -> int:
    """Run them one after the other, from the repository's root."""
    failed = []
    for name in names():
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if subprocess.run(command, cwd=FOLDER.parent, check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"failed, or past a target: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
