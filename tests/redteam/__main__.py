"""Try every evasion and every strange customer on the detector, and say which are found and which are troubled.

    python -m tests.redteam [--accounts 10] [--seed 1] [--knob 1] [--baseline FILE] [--only WORD ...] [--out FILE]

Accounts are made by code from the seed and go through the service's own ingest and engine, each by itself. With
--composed the lists, and the organic accounts that lend their gaps and their cover, are those of composed streams of
these seeds (from `compose.py` in the folder that STILLWATCH_SHARED or --shared names); customers are left out then.
With --without-cadence every account, customers too, sends at the gaps of a person, so that the clock tells nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import Progress

from detectors.baseline import Baseline, load_default
from detectors.engine import EngineOptions
from tests.bench.detection import compose
from tests.redteam.attacks import ATTACKS
from tests.redteam.customers import CUSTOMERS, Customer
from tests.redteam.evasions import copied_gaps
from tests.redteam.report import (
    ATTACK_COLUMNS,
    CUSTOMER_COLUMNS,
    LEGEND,
    attack_cells,
    customer_cells,
    markdown,
    table,
    totals,
)
from tests.redteam.sources import MADE, Sources, composed
from tests.redteam.traffic import Events
from tests.redteam.trial import Trial, Verdict

DAYS = 14

Made = Callable[[str, Random], tuple[Events, set[str]]]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.redteam", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accounts", type=int, default=10, help="accounts of each kind")
    parser.add_argument("--seed", type=int, default=1, help="source of everything")
    parser.add_argument("--knob", type=float, default=1.0, help="false findings per 1,000 account-days")
    parser.add_argument("--baseline", type=Path, help="judge by this one instead of the default")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="kinds whose name holds one of these")
    parser.add_argument("--out", type=Path, help="write Markdown here")
    parser.add_argument("--without-cadence", action="store_true", help="everybody sends at a person's gaps")
    parser.add_argument("--composed", type=int, nargs="+", metavar="SEED", help="attacks from composed streams")
    parser.add_argument(
        "--shared", type=Path, default=os.environ.get("STILLWATCH_SHARED"), help="holds traffic, corpora"
    )
    given = parser.parse_args(arguments)
    if given.accounts < 1:
        parser.error("--accounts must be at least 1")
    if given.composed and not given.shared:
        parser.error("--composed needs the folder with corpora/ and traffic/: --shared DIR or STILLWATCH_SHARED")
    return given


def sources_of(given: argparse.Namespace) -> Sources:
    """Accounts made by code, or those of composed streams."""
    if not given.composed:
        return MADE
    cache = Path(tempfile.gettempdir()) / "stillwatch-bench"
    return composed([compose(Path(given.shared), seed, DAYS, "", cache) for seed in given.composed])


def buying(customer: Customer) -> Made:
    """A customer: no list among its events."""
    return lambda account, rng: (customer(account, rng), set())


def without_cadence(made: Made, sources: Sources) -> Made:
    """The same account at the gaps of a person."""

    def sent(account: str, rng: Random) -> tuple[Events, set[str]]:
        events, listed = made(account, rng)
        return copied_gaps(events, rng, organic=sources.person(f"{account}/times", rng)), listed

    return sent


def tried(
    made: Mapping[str, Made], given: argparse.Namespace, trial: Trial, step: Callable[[], None]
) -> dict[str, list[Verdict]]:
    """Verdicts on `--accounts` accounts of each kind; what an account does depends on seed, kind and number alone."""
    results = {}
    for name, make in made.items():
        verdicts = []
        for number in range(given.accounts):
            account = f"{name} {number}"
            verdicts.append(trial(*make(account, Random(f"{given.seed}/{account}"))))
            step()
        results[name] = verdicts
    return results


def chosen(catalogue: Mapping[str, Made], words: Sequence[str]) -> dict[str, Made]:
    """Those whose name holds one of `words`, or all."""
    return {name: made for name, made in catalogue.items() if not words or any(word in name for word in words)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Make, judge, print."""
    given = parse(arguments)
    baseline = Baseline.from_bytes(given.baseline.read_bytes()) if given.baseline else load_default()
    trial = Trial(baseline, EngineOptions(false_findings_per_1000_account_days=given.knob))
    sources = sources_of(given)
    attacks = chosen({name: partial(attack, sources) for name, attack in ATTACKS.items()}, given.only)
    customers = {} if given.composed else chosen({name: buying(made) for name, made in CUSTOMERS.items()}, given.only)
    if given.without_cadence:
        attacks = {name: without_cadence(made, sources) for name, made in attacks.items()}
        customers = {name: without_cadence(made, sources) for name, made in customers.items()}
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("accounts", total=given.accounts * (len(attacks) + len(customers)))
        found = tried(attacks, given, trial, lambda: progress.advance(task))
        troubled = tried(customers, given, trial, lambda: progress.advance(task))
    rows = [customer_cells(*item) for item in troubled.items()]
    parts = [("Attacks", ATTACK_COLUMNS, [attack_cells(*item) for item in found.items()], totals(found))]
    parts += [("Customers that are not attackers", CUSTOMER_COLUMNS, rows, totals(troubled))]
    parts = [part for part in parts if part[2]]
    console = Console() if sys.stdout.isatty() else Console(width=180)
    for title, columns, cells, total in parts:
        console.print(table(title, columns, cells))
        console.print(total)
    if given.out:
        command = f"`python -m tests.redteam --accounts {given.accounts} --seed {given.seed} --knob {given.knob:g}"
        command += " --without-cadence" if given.without_cadence else ""
        command += f" --composed {' '.join(map(str, given.composed))}`" if given.composed else "`"
        head = f"# Red team\n\nWritten by {command}, baseline `{baseline.hash}`.\n\n{LEGEND}\n"
        given.out.write_text(head + "\n".join(markdown(*part) for part in parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
