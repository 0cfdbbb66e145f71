"""All that is measured of detection, in one run: tests/bench/DETECTION.md, and the curves beside it.

    python -m tests.bench.detection_report --shared DIR [--seeds 1 2 3 4 5] [--fit-seeds 11 12 13] [--days 14]
        [--out tests/bench/DETECTION.md]

One after the other: `tests.bench.detection`, `tests.bench.assumptions`, `tests.bench.comparison`,
`tests.bench.ablation`, `tests.bench.fitting` on composed streams, and `tests.redteam` on made-up and on composed ones.
Each explains itself with --help. What it comes to stands in `detection_limits.md`, which is put in front: read it
against new figures. Ends with the largest of the parts' exit codes: detection, assumptions and fitting say whether
their targets are met.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from detectors.baseline import load_default
from tests.bench.detection import streams_parser

HERE = Path(__file__).parent

HEAD = """# Detection

Written by `make bench-detection` on {when} UTC, commit {commit}, default baseline `{baseline}`: streams {seeds} of
{days} days, fitted on the organic parts of streams {fit_seeds}. The same people write in every stream, so what counts
is the column *pools left out*: nobody is judged by a baseline that has seen their pool of people.
"""

PARTS = {
    "What is found, and who is troubled": "tests.bench.detection",
    "The knob, and what it rests on": "tests.bench.assumptions",
    "Beside other methods": "tests.bench.comparison",
    "What each part is worth": "tests.bench.ablation",
    "What a fit may be made from": "tests.bench.fitting",
}

CURVES = "![Recall of unmixed single accounts against the share of organic accounts alerted](DETECTION.svg)\n"


def main() -> int:
    """Run all, write the file."""
    parser = streams_parser(__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "DETECTION.md", help="(default: %(default)s)")
    options = parser.parse_args()
    streams = ["--shared", str(options.shared), "--days", str(options.days), "--cache", str(options.cache)]
    for name, seeds in (("--seeds", options.seeds), ("--fit-seeds", options.fit_seeds)):
        streams += [name, *map(str, seeds)]
    text = [
        HEAD.format(
            when=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
            commit=_commit(),
            baseline=load_default().hash,
            days=options.days,
            seeds=_spoken(options.seeds),
            fit_seeds=_spoken(options.fit_seeds),
        )
    ]
    text.append((HERE / "detection_limits.md").read_text(encoding="utf-8"))
    statuses = []
    for title, module in PARTS.items():
        more = ["--plot", str(options.out.with_suffix(".svg"))] if module == "tests.bench.comparison" else []
        status, part = _run(module, "--markdown", *streams, *more)
        statuses.append(status)
        text += [f"## {title}\n", *([CURVES] if more else []), part]
    composed = ["--shared", str(options.shared), "--composed", *map(str, options.seeds)]
    for title, more in (("Red team", []), ("Red team on composed streams", composed)):
        status, part = _run("tests.redteam", "--out", *more)
        statuses.append(status)
        text.append(part.replace("\n## ", "\n### ").replace("# Red team", f"## {title}", 1))
    options.out.write_text("\n".join(text), encoding="utf-8")
    print(f"written: {options.out}")
    return max(statuses)


def _spoken(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))


def _commit() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=HERE, capture_output=True, text=True)
    return found.stdout.strip() or "unknown"


def _run(module: str, writes: str, *arguments: str) -> tuple[int, str]:
    """Exit code of one part, and what it wrote where its option `writes` says; one that wrote nothing ends all."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.md"
        status = subprocess.run([sys.executable, "-m", module, writes, str(part), *arguments]).returncode
        if not part.exists():
            raise SystemExit(f"{module} ended with {status} and wrote nothing")
        return status, part.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
