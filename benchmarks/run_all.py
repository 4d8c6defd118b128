"""All benchmarks in turn: product, peer, ratio, limit. Hours; each part can be run alone.

    python benchmarks/run_all.py [PART ...] [--out FOLDER]

What a part prints is also kept in FOLDER/<part>.txt (runs/benchmarks by default), the table of all
figures that have a limit in FOLDER/figures.md; docs/benchmarks.md holds the last ones. Parts that
need the folder `shared` beside the project, or a peer that is not installed, say so in one line and
are skipped.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import GATHERED_IN, HEADER, read_figures

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared"
LEAVES = SHARED / "data" / "leaves"
PHOTOS = Path(tempfile.gettempdir()) / "fieldmark-photos"

PARTS: dict[str, list[list[str]]] = {
    "start": [["start.py"]],
    "features": [["stored_features.py"]],
    "photos": [["loading.py", "photos", str(PHOTOS), "2000"]],
    "loading": [
        ["loading.py", what, str(LEAVES / "images"), str(PHOTOS)] for what in ("speed", "parts")
    ],
    "memory": [
        ["loading.py", "memory", str(LEAVES / "images"), number]
        for number in ("1000", "10000", "100000")
    ],
    "multiply": [["multiply_rates.py"]],
    "step": [
        ["training_step.py"],
        ["training_step.py", "--profile"],
        ["attention.py"],
        ["small_maps.py"],
        ["kept_memory.py"],
    ],
    "peers": [["peers.py"]],
    "pieces": [["pieces.py"], ["pieces.py", "rpt", "--precision", "bf16"]],
    "patches": [["patches.py"]],
    "inference": [
        *(["inference.py", part] for part in ("backends", "int8", "operations")),
        ["predicting.py"],
    ],
    "intervals": [["intervals.py"]],
    "audit": [["audit.py"]],
    "landscape": [["landscape_speed.py"]],
}
NEED_SHARED = {"loading", "memory"}


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    given = parser.parse_args()
    unknown = [part for part in given.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores", flush=True)
    gathered = given.out / "figures.jsonl"
    gathered.unlink(missing_ok=True)
    os.environ[GATHERED_IN] = str(gathered.absolute())
    failed = [part for part in given.parts or PARTS if not run_part(part, given.out)]
    table = "\n".join([HEADER, *(figure.as_row() for figure in read_figures(gathered))])
    (given.out / "figures.md").write_text(table + "\n", encoding="utf-8")
    print(f"\n## All that have a limit\n\n{table}", flush=True)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; what they said stands in {given.out}")


def run_part(name: str, out: Path) -> bool:
    """Run the commands of a part; whether all of them ended well."""
    print(f"\n## {name}", flush=True)
    if name in NEED_SHARED and not LEAVES.is_dir():
        print("skipped: no folder 'shared' beside the project")
        return True
    with (out / f"{name}.txt").open("w", encoding="utf-8") as kept:
        for words in PARTS[name]:
            command = [sys.executable, str(HERE / words[0]), *words[1:]]
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as process:
                assert process.stdout is not None
                for line in process.stdout:
                    print(line, end="", flush=True)
                    kept.write(line)
            if process.returncode:
                return False
    return True


if __name__ == "__main__":
    main()
