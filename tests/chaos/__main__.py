"""Play scenarios, say how it goes, write RESULTS.md; exit code 1 when a promise did not hold."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import tests.chaos.scenarios  # noqa: F401 - fills the catalogue
from streams.detection import read_baseline, warm_up
from streams.settings import load_settings
from tests.chaos.kafka import Kafka, Kind, start_kafka
from tests.chaos.results import Run, summary, write_results
from tests.chaos.stage import CATALOGUE, Scenario, Skipped, Stage

WHY_CHARACTERS = 400
CI_SEED = 4
"""A change should not fail for what another seed would have shown before it: new seeds are for the whole."""

RUN_SECONDS = 900
"""A run that takes longer hangs."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the scenarios and end")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="play this one; may be given several times")
    parser.add_argument(
        "--ci", action="store_true", help="what a change has to pass, in eight minutes, with a fixed seed"
    )
    parser.add_argument("--seed", type=int, help="repeat a run; absent and without --ci, a new one each time, printed")
    parser.add_argument("--kills", type=int, help="faults of the repeated kind in each run, instead of its own number")
    parser.add_argument("--runs", type=int, default=1, help="runs of each scenario, each with a seed of its own")
    parser.add_argument("--keep", action="store_true", help="keep logs and data also of runs that held")
    parser.add_argument("--no-results", action="store_true", help="leave RESULTS.md as it is")
    given = parser.parse_args(arguments)
    if unknown := set(given.scenario or ()) - CATALOGUE.keys():
        parser.error(f"no scenario {', '.join(sorted(unknown))}; --list names them")
    if given.ci and given.seed is None:
        given.seed = CI_SEED
    return given


def chosen(given: argparse.Namespace) -> list[tuple[Scenario, int]]:
    """Scenarios to play with their number of kills; those of one broker first, so that each Kafka starts once."""
    scenarios = [CATALOGUE[name] for name in given.scenario or CATALOGUE]
    if given.ci:
        scenarios = [entry for entry in scenarios if entry.ci]
    scenarios.sort(key=lambda entry: entry.kafka)  # stable: within a Kafka, in the order of the catalogue
    return [(entry, given.kills or (entry.ci if given.ci else entry.kills)) for entry in scenarios]


def play(entry: Scenario, kafka: Kafka, folder: Path, seed: int, kills: int) -> Run:
    """Play one run and end what it started."""
    folder.mkdir(parents=True)

    def say(text: str) -> None:
        print(f"    {time.strftime('%H:%M:%S')} {text}", flush=True)

    print(f"{entry.name}: {entry.title} (seed {seed}, {kills} faults, {folder})", flush=True)
    started = time.monotonic()
    stage = Stage(kafka, folder, seed, kills, say, **entry.options)
    verdict, why = "held", ""
    try:
        asyncio.run(_bounded(entry, stage))
    except Skipped as reason:
        verdict, why = "skipped", str(reason)
    except (AssertionError, TimeoutError) as error:
        verdict, why = "BROKEN", str(error) or type(error).__name__
        print(why, flush=True)
    finally:
        stage.close()
    run = Run(entry.name, seed, verdict, time.monotonic() - started, stage.did, stage.figures, why[:WHY_CHARACTERS])  # type: ignore[arg-type]
    print(f"  {run.verdict} in {run.seconds:.0f} s: {dict(run.did)} {run.figures}", flush=True)
    return run


async def _bounded(entry: Scenario, stage: Stage) -> None:
    async with asyncio.timeout(RUN_SECONDS):
        await stage.make_topics()
        await entry.play(stage)


def compile_kernels() -> None:
    """Leave compiled kernels on disk: the first worker of a checkout would take most of a scenario's patience."""
    started = time.monotonic()
    settings = load_settings()
    warm_up(settings, read_baseline(settings))
    print(f"kernels are there after {time.monotonic() - started:.0f} s", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what the command line asks for; 0 when everything held."""
    given = parse(arguments)
    if given.list:
        for entry in CATALOGUE.values():
            brokers = {"one": "1 broker", "three": "3 brokers"}[entry.kafka]
            print(f"{entry.name:38} {brokers:9}  {'ci' if entry.ci else '  '}  {entry.title}")
        return 0
    # Clients of the harness lose their brokers as workers do, and would say so line by line.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    compile_kernels()
    root = Path(tempfile.mkdtemp(prefix="stillwatch-chaos-"))
    command = " ".join(["python -m tests.chaos", *(sys.argv[1:] if arguments is None else arguments)])
    runs: list[Run] = []
    served: dict[Kind, Kafka] = {}
    with ExitStack() as stack:
        for entry, kills in chosen(given):
            if entry.kafka not in served:
                for kafka in served.values():
                    kafka.stop()  # three more JVMs are enough for a small machine
                served = {entry.kafka: start_kafka(entry.kafka, root / entry.kafka)}
                stack.callback(served[entry.kafka].stop)
            for number in range(given.runs):
                seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed + number
                folder = root / f"{entry.name}-{seed}-{number}"
                runs.append(play(entry, served[entry.kafka], folder, seed, kills))
                if not given.no_results:  # after each, so that a command that is cut short leaves what it found
                    write_results(runs, command)
                if runs[-1].verdict == "held" and not given.keep:
                    shutil.rmtree(folder, ignore_errors=True)
    print(summary(runs))
    broken = any(run.verdict == "BROKEN" for run in runs)
    if not broken and not given.keep:
        shutil.rmtree(root, ignore_errors=True)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
