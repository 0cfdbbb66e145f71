"""How fast requests are scored, where the time goes, and how many bytes an account's state takes.

    python -m tests.bench.speed [--requests 100000] [--accounts 2000] [--runs 5] [--json FILE]

It makes its own traffic (`tests.bench.speed_streams`) and takes it the way of `stillwatch replay FILE`: lines, request
events, embeddings, codes, the accounts' records, findings, alerts as JSON. Three streams tell of the same requests:
with 256-number embeddings (base64 float16, records of about 1.1 KB), with their prompts (about 20 words), and every
fifth of them with a long prompt (about 600 words).

What a figure means:

- *Time* is the process's CPU time, all threads counted, pinned to one core where the system allows it, so what else the
  machine does disturbs little; on an idle core a request takes as long by the wall clock. Each figure stands for a
  whole pass over the stream with a fresh engine; a pass that is not counted comes first (it compiles kernels, and fills
  the text model's cache of words as a worker's is). Shown are the least, the median and the most of the passes.
- *Stages* add up to the whole:

    read lines      the bytes cut into lines and records
    decode          JSON to a checked request event, base64 to bytes
    embed           text to a vector; of an embedding: float16 to float32, with checks
    encode          vector to 256 sign bits
    rest of ingest  last user turn, identities, hashes, columns
    slots           each account's row found or made, changes noted
    kernel          all statistics, looks and episodes: one compiled loop
    findings        alerts made and written as JSON
    rest            what is left of replay

  A clock around each record would cost nearly as much as its decoding, so a batch is decoded first, as a whole, and
  ingest is handed the events that came of it: all is done once, as in a replay, in another order, which makes the
  whole up to a tenth slower than a replay that nobody measures. "Rest of ingest" is what it takes beside the stages
  that are measured.
- *Floors* are passes over the same bytes in the same run: cutting them into lines, and `orjson.loads` of each line,
  which checks nothing and keeps base64 as text. How often a floor fits into the whole compares better between machines
  than a time.
- *State* is the sealed envelope as it is stored (compressed), of every account of the stream; a "row" is what an
  account takes in memory, whatever it sent.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import platform
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import process_time_ns
from typing import Any, NamedTuple, TypeVar, cast
from unittest.mock import patch

import numba
import numpy as np
import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from detectors import account, finding
from detectors.baseline import Baseline, load_default
from detectors.embedding import WordLlamaEmbedder, load_wordllama
from detectors.engine import Engine
from schemas.alert import encode_alert
from schemas.request import RequestEvent, RequestLimits, decode_request
from schemas.version import VERSION
from streams import ingest as ingest_module
from streams.ingest import Ingest
from streams.replay import FILE_PARTITION, FileRecord, Replay, file_batches
from tests.bench.speed_streams import Stream, make_streams, mean_words

STAGES = ("read lines", "decode", "embed", "encode", "rest of ingest", "slots", "kernel", "findings", "rest")
FLOORS = ("lines", "orjson")

LIMITS = RequestLimits()
NS_A_MICROSECOND = 1000

Timed = TypeVar("Timed", bound=Callable[..., Any])


class Pass(NamedTuple):
    """One pass over a stream: nanoseconds by stage, by floor and in all; bytes of each account's state."""

    stages: dict[str, int]
    floors: dict[str, int]
    whole: int
    alerts: int
    states: list[int]


class Stopwatch:
    """CPU time by stage; what is timed inside something timed counts for both."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()

    def around(self, stage: str, function: Timed) -> Timed:
        """`function`, its time counted for `stage`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = process_time_ns()
            result = function(*args, **kwargs)
            self.spent[stage] += process_time_ns() - begin
            return result

        return cast(Timed, timed)

    @contextmanager
    def on(self, *parts: tuple[object, str, str]) -> Iterator[None]:
        """Within this context, time each (owner, name of its function, stage)."""
        with ExitStack() as stack:
            for owner, name, stage in parts:
                stack.enter_context(patch.object(owner, name, self.around(stage, getattr(owner, name))))
            yield


class Decoded:
    """Stands in for `decode_request` with the events of records that were decoded before, each handed out once."""

    def __init__(self) -> None:
        self._events: Iterator[RequestEvent] = iter(())

    def take(self, records: list[FileRecord]) -> None:
        """Decode the records that will be asked for next."""
        self._events = iter([decode_request(record.value or b"", LIMITS, record.timestamp) for record in records])

    def __call__(self, value: bytes, limits: RequestLimits, record_time: int) -> RequestEvent:
        """The next record's event."""
        return next(self._events)


class Bench:
    """Passes over streams of at most `accounts` accounts, with one baseline and one text model."""

    def __init__(self, baseline: Baseline, embedder: WordLlamaEmbedder, accounts: int) -> None:
        self._baseline, self._embedder, self._accounts = baseline, embedder, accounts

    def run(self, stream: Stream) -> Pass:
        """Score a stream from its bytes on, with a fresh engine."""
        gc.collect()  # no pass pays for another's garbage
        floors = {"lines": _cpu(lambda: _cut(stream.lines)), "orjson": _cpu(lambda: _load(stream.lines))}
        watch = Stopwatch()
        engine = Engine(self._baseline, capacity=self._accounts)
        alerts: list[bytes] = []
        replay = Replay(
            watch.around("ingest", Ingest(encoder=self._baseline.encoder, embedder=self._embedder)),
            engine,
            max_accounts=self._accounts,
            on_alert=watch.around("findings", lambda alert: alerts.append(encode_alert(alert))),
        )
        decoded = Decoded()
        with (
            patch.object(ingest_module, "decode_request", decoded),
            watch.on(
                (ingest_module, "decode_embeddings", "embed"),
                (ingest_module, "check_vectors", "embed"),
                (self._embedder, "embed", "embed"),
                (self._baseline.encoder, "encode", "encode"),
                (engine, "apply", "apply"),
                (engine, "close_all", "findings"),
                (engine, "_report", "report"),
                (finding, "run", "kernel"),
            ),
        ):
            self._feed(stream, watch, replay, decoded)
            states = [len(envelope) for _, envelope in engine.snapshot(FILE_PARTITION)]
            watch.around("replay", replay.finish)()
        if replay.summary.events != stream.requests:
            raise RuntimeError(f"{replay.summary.events} of {stream.requests} requests were scored")
        whole = watch.spent["read lines"] + watch.spent["decode"] + watch.spent["replay"]
        return Pass(_stages(watch.spent, whole), floors, whole, len(alerts), states)

    def _feed(self, stream: Stream, watch: Stopwatch, replay: Replay, decoded: Decoded) -> None:
        batches = file_batches(io.BytesIO(stream.lines), max_record_bytes=LIMITS.record_bytes)
        read: Callable[[], list[FileRecord] | None] = watch.around("read lines", lambda: next(batches, None))
        feed = watch.around("replay", replay.feed)
        decode = watch.around("decode", decoded.take)
        while (records := read()) is not None:
            decode(records)
            feed(FILE_PARTITION, records)


def _stages(spent: Counter[str], whole: int) -> dict[str, int]:
    """What each stage took beside those inside it."""
    stages = {name: spent[name] for name in ("read lines", "decode", "embed", "encode", "kernel")}
    stages["rest of ingest"] = spent["ingest"] - spent["embed"] - spent["encode"]
    stages["slots"] = spent["apply"] - spent["kernel"] - spent["report"]
    stages["findings"] = spent["findings"] + spent["report"]
    stages["rest"] = whole - sum(stages.values())
    return {name: stages[name] for name in STAGES}


def _cpu(work: Callable[[], None]) -> int:
    begin = process_time_ns()
    work()
    return process_time_ns() - begin


def _cut(lines: bytes) -> None:
    for _ in io.BytesIO(lines):
        pass


def _load(lines: bytes) -> None:
    for line in io.BytesIO(lines):
        orjson.loads(line)


# ------------------------------------------------------------------------------------------------- figures


def spread(values: list[float]) -> dict[str, float]:
    """Least, median and most.

    >>> spread([3.0, 1.0, 2.0])
    {'min': 1.0, 'median': 2.0, 'max': 3.0}
    """
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def figures(stream: Stream, passes: list[Pass]) -> dict[str, Any]:
    """All that was found on a stream."""
    n = stream.requests
    states = passes[-1].states  # the same in every pass, as is the number of alerts

    def microseconds(times: Iterable[int]) -> dict[str, float]:
        return spread([time / n / NS_A_MICROSECOND for time in times])

    return {
        "requests": n,
        "accounts": stream.accounts,
        "record_bytes": round(stream.record_bytes),
        "words": round(mean_words(stream), 1),
        "alerts": passes[-1].alerts,
        "requests_a_second": spread([n * 1e9 / p.whole for p in passes]),
        "microseconds": microseconds(p.whole for p in passes),
        "stages": {
            stage: {
                "microseconds": microseconds(p.stages[stage] for p in passes),
                "share": spread([p.stages[stage] / p.whole for p in passes]),
            }
            for stage in STAGES
        },
        "floors": {
            floor: {
                "microseconds": microseconds(p.floors[floor] for p in passes),
                "times_in_whole": spread([p.whole / p.floors[floor] for p in passes]),
            }
            for floor in FLOORS
        },
        "state_bytes": {"median": statistics.median(states), "max": max(states), "row": account.DTYPE.itemsize},
    }


def machine(core: int | None) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "stillwatch": VERSION,
        "python": platform.python_version(),
        "numba": numba.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "pinned_to": core,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def pin() -> int | None:
    """Keep to the last of the cores that are ours; None where the system knows no such thing."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


# ------------------------------------------------------------------------------------------------- the table


def show(console: Console, name: str, found: dict[str, Any]) -> None:
    """Print what was found on a stream."""
    states = found["state_bytes"]
    words = f", {found['words']:.0f} words" if found["words"] else ""
    table = Table(title=f"{name}: {found['record_bytes']} bytes a record{words}", title_justify="left")
    table.add_column("µs of CPU a request")
    for heading in ("least", "median", "most", "of the whole"):
        table.add_column(heading, justify="right")
    for stage, took in found["stages"].items():
        table.add_row(stage, *_three(took["microseconds"], "{:.2f}"), f"{100 * took['share']['median']:.1f} %")
    table.add_section()
    table.add_row("whole", *_three(found["microseconds"], "{:.2f}"), "100.0 %")
    for floor, took in found["floors"].items():
        fits = f"{took['times_in_whole']['median']:.1f} times in it"
        table.add_row(f"floor: {floor}", *_three(took["microseconds"], "{:.2f}"), fits)
    console.print(table)
    least, median, most = _three(found["requests_a_second"], "{:,.0f}")
    console.print(f"[bold]{median} requests a second on one core[/bold] ({least} to {most})")
    console.print(f"{found['requests']:,} requests of {found['accounts']:,} accounts, {found['alerts']} alerts")
    console.print(
        f"state: {states['median']:,.0f} bytes an account, at most {states['max']:,}; a row has {states['row']:,}\n"
    )


def _three(values: dict[str, float], form: str) -> tuple[str, str, str]:
    return form.format(values["min"]), form.format(values["median"]), form.format(values["max"])


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,  # its thread would count
    )


def measure(requests: int, accounts: int, runs: int, seed: int) -> dict[str, Any]:
    """Make the streams and run over each `runs` times, in turn, so that no stream has the quiet minutes to itself."""
    embedder = load_wordllama()
    bench = Bench(load_default(), embedder, accounts)
    with _progress() as bar:
        task = bar.add_task("making traffic", total=4)
        streams = make_streams(
            requests=requests,
            accounts=accounts,
            embedder=embedder,
            seed=seed,
            advance=lambda: bar.update(task, advance=1, refresh=True),
        )
        passes: dict[str, list[Pass]] = {stream.name: [] for stream in streams}
        task = bar.add_task("measuring", total=len(streams) * (runs + 1))
        for number in range(runs + 1):
            for stream in streams:
                done = bench.run(stream)
                if number:
                    passes[stream.name].append(done)
                bar.update(task, advance=1, refresh=True)
    return {stream.name: figures(stream, passes[stream.name]) for stream in streams}


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=int, default=100_000, help="requests of a pass (default: %(default)s)")
    parser.add_argument("--accounts", type=int, default=2_000, help="accounts that send them (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="passes over each stream (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here as well")
    arguments = parser.parse_args(given)
    if min(arguments.requests, arguments.runs) < 1 or arguments.accounts < 2:
        parser.error("--requests and --runs must be at least 1, --accounts at least 2")
    return arguments


def main(given: list[str] | None = None) -> int:
    """Run the benchmark; 0, or 2 when the arguments do not fit each other."""
    arguments = _arguments(given)
    about = machine(pin())
    console = Console(highlight=False)
    try:
        found = measure(arguments.requests, arguments.accounts, arguments.runs, arguments.seed)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    console.print(", ".join(f"{key} {value}" for key, value in about.items()))
    console.print(f"seed {arguments.seed}, {arguments.runs} passes over each stream\n")
    for name, of_stream in found.items():
        show(console, name, of_stream)
    if arguments.json:
        whole = {"machine": about, "seed": arguments.seed, "runs": arguments.runs, "streams": found}
        arguments.json.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
