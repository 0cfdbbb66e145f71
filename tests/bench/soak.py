"""Half an hour of a worker at full rate on a real Kafka: does it take more memory, or longer, the longer it runs?

    python -m tests.bench.soak [--minutes 30] [--store memory|rocksdict] [--rate N] [--out FILE.md] [--plot FILE.svg]
                               [--samples FILE.jsonl]

It starts its own Kafka (deploy/kafka) and keeps a backlog before the worker (or sends at a steady rate), so that the
worker never waits. In the traffic (`service_traffic.Relay`) accounts come and go: some thousands send at any time, each
for four days of event time, then another takes its place; some copy the model, so findings are raised throughout.
Event time runs as fast as the worker does. The slab holds half as many again as the accounts that send at a time, the
memory store twice as many, so both give way; with rocksdict, states of silent accounts are deleted after 16 days of
event time. All so reach their size in minutes. The worker has one core to itself, Kafka and this script have the rest.

Every few seconds it looks at the worker:

    memory        resident bytes (VmRSS)
    handles       open files and sockets
    threads, tasks
    latency       of alerts, from before their request was handed to the producer until they are read; the wait in the
                  backlog is part of it, so with a backlog it also tells of the rate
    cost          CPU time a request, all threads
    rate          requests a second

What came before --warm-up (a third of the run) is left out. Through the rest of a series goes a line by Theil and Sen:
the median of the slopes between all pairs of samples, which single outliers do not move, with its interval of 95 %.
A series *grows* when the line rises by more than its bound in 30 minutes and the whole interval is above zero; then the
script ends with status 1. With less than 10 minutes after the warm-up bounds are held against the rise in that time
itself, and memory against none: RocksDB's buffers and caches take some minutes to fill.

References
----------
[^1]: Sen, P. K. (1968). Estimates of the regression coefficient based on Kendall's tau. JASA 63(324), 1379-1389.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic
from scipy.stats import theilslopes

from schemas.durations import DAY_MS
from streams.settings import Settings, load_settings
from streams.topics import TopicNames, admin_of, topic_specs
from tests.bench.service import PARTITIONS, alert_waits, cpu_seconds, folder_bytes, memory, reader_of
from tests.bench.service_report import circumstances, table
from tests.bench.service_traffic import Feed, Record, Relay, Sendings, with_findings
from tests.bench.soak_worker import TASKS
from tests.integration.broker import Broker
from tests.integration.streams.running import Worker

PREFIX = "soak."
ORGANIC, PLANTED = 299, 1
BEGIN_BEFORE_MS = 3 * 365 * DAY_MS
"""Event time begins so long ago, since it runs ahead some hundred days in an hour, and must not get to tomorrow."""

STATE_EXPIRY_DAYS = 8
STEP_RECORDS = 2_000
POLL_SECONDS = 0.05

BROKER_PROPERTIES = "log.retention.check.interval.ms=5000\n"
"""By default Kafka looks every five minutes whether there is more than is to be kept: 15 GB at full rate."""

REQUESTS_BYTES = 256 << 20
TOPIC_CONFIG = {
    "requests": {"retention.bytes": str(REQUESTS_BYTES), "segment.bytes": str(64 << 20)},
    "alerts": {"retention.bytes": str(64 << 20), "segment.bytes": str(16 << 20)},
    "state": {
        "min.compaction.lag.ms": "60000",
        "segment.ms": "30000",
        "segment.bytes": str(64 << 20),
        "delete.retention.ms": "60000",
    },
}
"""So that the disk does not fill, whatever the rate: for each partition."""

HALF_HOUR = 1800.0
ENOUGH_SECONDS = 600.0


class Series(NamedTuple):
    """One of the series that are tested.

    `bound` is the rise in 30 minutes that is let pass: a share of the median when `relative`, else a number.
    """

    name: str
    words: str
    scale: float
    form: str
    bound: float
    relative: bool


SERIES = (
    Series("memory", "memory, MB", 1e-6, "{:,.1f}", 0.02, relative=True),
    Series("handles", "handles", 1, "{:,.1f}", 0.5, relative=False),
    Series("threads", "threads", 1, "{:,.1f}", 0.5, relative=False),
    Series("tasks", "asyncio tasks", 1, "{:,.1f}", 0.5, relative=False),
    Series("latency_p50", "alert latency, median of a sample, ms", 1, "{:,.0f}", 0.10, relative=True),
    Series("latency_p99", "alert latency, p99 of a sample, ms", 1, "{:,.0f}", 0.10, relative=True),
    Series("cost", "CPU time a request, µs", 1, "{:,.2f}", 0.05, relative=True),
)
TOLD = ("rate", "accounts", "store", "lag", "alerts", "feeder")
"""What is sampled and not tested."""

Sample = dict[str, float]


class Growth(NamedTuple):
    """How a series went after the warm-up: its median, its rise with the interval's ends, the bound if any."""

    series: Series
    median: float
    rise: float
    low: float
    high: float
    bound: float | None

    @property
    def grows(self) -> bool:
        """Whether it rises by more than its bound, beyond chance."""
        return self.bound is not None and self.rise > self.bound and self.low > 0


def growth(series: Series, samples: Sequence[Sample]) -> Growth | None:
    """Test a series; None when too few samples have it.

    >>> handles = next(s for s in SERIES if s.name == "handles")
    >>> growth(handles, [{"seconds": 5.0 * i, "handles": 40 + i % 3} for i in range(300)]).grows
    False
    >>> growth(handles, [{"seconds": 5.0 * i, "handles": 40 + i % 3 + i // 60} for i in range(300)]).grows
    True
    """
    points = [(sample["seconds"], sample[series.name] * series.scale) for sample in samples if series.name in sample]
    if len(points) < 8:
        return None
    times, values = np.array(points).T
    slope, _, low, high = theilslopes(values, times, 0.95)
    stretch = float(times[-1] - times[0])
    is_short = stretch < ENOUGH_SECONDS
    over = stretch if is_short else HALF_HOUR
    median = float(np.median(values))
    bound = None if is_short and series.name == "memory" else series.bound * (median if series.relative else 1.0)
    return Growth(series, median, float(slope) * over, float(low) * over, float(high) * over, bound)


# ------------------------------------------------------------------------------------------------- the run


class Soak:
    """A worker, what feeds it, what reads its alerts, and what looks at it."""

    def __init__(
        self, given: argparse.Namespace, settings: Settings, worker: Worker, traffic: Iterator[Record]
    ) -> None:
        self._given, self._settings, self._worker, self._traffic = given, settings, worker, traffic
        self._names = TopicNames.of(settings)
        self._sendings = Sendings()
        self._waits: list[float] = []
        self._lag = 0
        self._before = (0.0, 0.0, 0.0, 0.0)
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Until the time is over; raises `RuntimeError` when the worker ends before."""
        tasks = [asyncio.create_task(part) for part in (self._feed(), self._read_alerts(), self._look())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _feed(self) -> None:
        """Keep a backlog, at the rate that is given when one is."""
        brokers, group = self._settings.brokers, self._settings.group_id
        partitions = [TopicPartition(self._names.requests, number) for number in range(PARTITIONS)]
        async with Feed(brokers, self._names.requests, PARTITIONS) as feed, reader_of(brokers, group) as reader:
            reader.assign(partitions)
            begin, looked = time.monotonic(), 0.0
            while True:
                now = time.monotonic()
                if now - looked > POLL_SECONDS:
                    self._lag = feed.sent - sum([await reader.committed(tp) or 0 for tp in partitions])
                    looked, at_look = now, feed.sent
                room = self._given.backlog - self._lag - (feed.sent - at_look)
                if self._given.rate:
                    room = min(room, int((now - begin) * self._given.rate) - feed.sent)
                if room > 0:
                    due = list(islice(self._traffic, min(room, STEP_RECORDS)))
                    self._sendings.note(due[0].time)
                    await feed.send(due)
                await asyncio.sleep(0 if room > STEP_RECORDS else POLL_SECONDS / 5)

    async def _read_alerts(self) -> None:
        consumer = AIOKafkaConsumer(
            self._names.alerts,
            bootstrap_servers=self._settings.brokers,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        )
        await consumer.start()
        try:
            while True:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    self._waits += [wait for _, wait in alert_waits(records, self._sendings)]
        finally:
            await consumer.stop()

    async def _look(self) -> None:
        begin = time.monotonic()
        self._before = self._totals(begin, await self._metrics())
        with self._given.samples.open("wb") as file:
            while (seconds := time.monotonic() - begin) < 60 * self._given.minutes:
                await asyncio.sleep(self._given.every - seconds % self._given.every)
                if self._worker.process.poll() is not None:
                    raise RuntimeError(f"the worker ended with {self._worker.process.returncode}:\n{self._worker.log}")
                sample = await self._sample(begin)
                self.samples.append(sample)
                file.write(orjson.dumps(sample) + b"\n")
                file.flush()
                self._tell(sample)

    async def _metrics(self) -> str:
        return (await asyncio.to_thread(self._worker.get, "/metrics"))[1]

    def _totals(self, now: float, metrics: str) -> tuple[float, float, float, float]:
        mine = time.process_time()
        return now, _metric(metrics, "stillwatch_records_total"), cpu_seconds(self._worker.process.pid), mine

    async def _sample(self, begin: float) -> Sample:
        metrics, pid = await self._metrics(), self._worker.process.pid
        before, self._before = self._before, self._totals(time.monotonic(), metrics)
        seconds, records, cpu, mine = (new - old for new, old in zip(self._before, before, strict=True))
        waits, self._waits = self._waits, []
        sample = {
            "seconds": self._before[0] - begin,
            "memory": memory(pid)["now"],
            "handles": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": len(os.listdir(f"/proc/{pid}/task")),
            "tasks": _metric(metrics, TASKS),
            "rate": records / seconds,
            "accounts": _metric(metrics, "stillwatch_accounts"),
            "store": folder_bytes(self._settings.data_dir),
            "lag": self._lag,
            "alerts": len(waits),
            "feeder": mine / seconds,
        }
        if records:
            sample["cost"] = 1e6 * cpu / records
        if waits:
            sample["latency_p50"], sample["latency_p99"] = np.percentile(waits, [50, 99]).tolist()
        return sample

    def _tell(self, sample: Sample) -> None:
        print(
            f"{sample['seconds']:5.0f} s  {sample['rate']:7,.0f} a second at {sample.get('cost', 0):5.1f} µs, "
            f"{sample['memory'] / 1e6:6,.0f} MB, {sample['handles']:.0f} handles, {sample['threads']:.0f} threads, "
            f"{sample['tasks']:.0f} tasks, {sample['accounts']:,.0f} accounts, "
            f"{sample['alerts']:.0f} alerts in {sample.get('latency_p50', 0):,.0f} ms",
            file=sys.stderr,
            flush=True,
        )


def _metric(text: str, name: str) -> float:
    lines = [line for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def make_topics(settings: Settings) -> None:
    """Make the topics as the service does, but with bounds on what they keep."""
    async with admin_of(settings) as admin:
        for kind, spec in zip(TopicNames._fields, topic_specs(settings), strict=True):
            config = spec.config | TOPIC_CONFIG.get(kind, {})
            answer = await admin.create_topics(
                [NewTopic(spec.name, spec.partitions, spec.replication_factor, topic_configs=config)]
            )
            if answer.topic_errors[0][1] != 0:
                raise RuntimeError(f"topic {spec.name} was refused: {answer.topic_errors[0]}")


def soak(given: argparse.Namespace, folder: Path, broker: Broker, core: int) -> tuple[list[Sample], int]:
    """Run; the samples, and the worker's exit code when it was told to stop."""
    print("making traffic", file=sys.stderr)
    moulds = with_findings(given.seed, organic=ORGANIC, planted=PLANTED)
    copies = max(1, round(given.accounts / (ORGANIC + PLANTED)))
    relay = Relay(moulds, copies, int(time.time() * 1000) - BEGIN_BEFORE_MS)
    settings = load_settings(
        brokers=broker.bootstrap,
        topic_prefix=PREFIX,
        group_id=PREFIX + "group",
        partitions=PARTITIONS,
        store=given.store,
        data_dir=folder / "data",
        max_accounts=2 * relay.accounts,
        slab_rows=max(16, relay.accounts * 3 // 2),
        state_expiry_days=STATE_EXPIRY_DAYS,
        log_level="WARNING",
    )
    asyncio.run(make_topics(settings))
    given_to_worker = {name: getattr(settings, name) for name in settings.model_fields_set}
    worker = Worker(folder, given_to_worker, ("-m", "tests.bench.soak_worker"))
    try:
        os.sched_setaffinity(worker.process.pid, {core})
        worker.wait_ready()
        run = Soak(given, settings, worker, iter(relay))
        asyncio.run(run.run())
        return run.samples, worker.stop()
    finally:
        worker.kill()
        if worker.log:
            print(worker.log[-5000:], file=sys.stderr)


# ------------------------------------------------------------------------------------------------- the report


def after_warm_up(samples: Sequence[Sample], minutes: float) -> list[Sample]:
    """The samples that are tested."""
    return [sample for sample in samples if sample["seconds"] >= 60 * minutes]


def report(about: dict[str, Any], given: argparse.Namespace, tested: Sequence[Sample], found: Sequence[Growth]) -> str:
    """What was found, as Markdown."""
    stretch = tested[-1]["seconds"] - tested[0]["seconds"]
    over = "30 minutes" if stretch >= ENOUGH_SECONDS else f"the {stretch:.0f} s looked at"
    rows = []
    for one in found:
        form, ends = one.series.form, (one.low, one.high)
        rise = f"{form.format(one.rise)} ({' to '.join(form.format(end) for end in ends)})"
        bound = "–" if one.bound is None else form.format(one.bound)
        verdict = "too short to tell" if one.bound is None else "**grows**" if one.grows else "holds"
        rows.append((one.series.words, form.format(one.median), rise, bound, verdict))
    medians = {name: float(np.median([sample[name] for sample in tested])) for name in TOLD}
    steady = f"{given.rate:,} requests a second" if given.rate else f"a backlog of {given.backlog:,} requests"
    return (
        f"{about['at']}, commit {about['commit']}: {given.minutes:g} minutes, {given.store} store, {steady}, "
        f"{given.accounts:,} accounts that send at a time, {len(tested)} samples after {given.warm_up:.2g} minutes; "
        f"Python {about['python']}, {about['cores']} cores of {about['processor']}.\n\n"
        + table(("series", "median", f"rise over {over} (95 %)", "bound", "verdict"), rows)
        + f"\n\nMedians: {medians['rate']:,.0f} requests a second; {medians['accounts']:,.0f} accounts with a state; "
        f"{medians['store'] / 1e6:,.0f} MB of data directory; {medians['alerts']:,.0f} alerts a sample "
        f"({given.every:g} s); {medians['lag']:,.0f} requests waiting; the feeder took {100 * medians['feeder']:.0f} % "
        "of a core.\n"
    )


def chart(samples: Sequence[Sample], warm_up: float) -> str:
    """The series over time as an SVG, one above the other, what is not tested in grey."""
    width, height, left = 900, 90, 260
    end = samples[-1]["seconds"]
    parts = []
    for place, series in enumerate((*SERIES, Series("rate", "requests a second", 1, "{:,.0f}", 0, relative=False))):
        points = [(s["seconds"], s[series.name] * series.scale) for s in samples if series.name in s]
        if not points:
            continue
        top = place * (height + 20) + 10
        most = max(value for _, value in points) or 1.0
        placed = [(left + t / end * (width - left), top + height * (1 - value / most)) for t, value in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        grey = warm_up * 60 / end * (width - left)
        parts += [
            f'<rect x="{left}" y="{top}" width="{grey:.0f}" height="{height}" fill="#eee"/>',
            f'<path d="M{left} {top}V{top + height}H{width}" stroke="#888" fill="none"/>',
            f'<polyline points="{line}" stroke="#06c" fill="none"/>',
            f'<text x="4" y="{top + 20}">{series.words}</text>',
            f'<text x="4" y="{top + 40}">0 to {series.form.format(most)}</text>',
        ]
    total = (len(SERIES) + 1) * (height + 20) + 20
    style = 'font-family="sans-serif" font-size="12"'
    box = f'viewBox="0 0 {width + 10} {total}" width="{width + 10}" height="{total}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} {style}>\n' + "\n".join(parts) + "\n</svg>\n"


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=30, help="(default: %(default)s)")
    add("--warm-up", type=float, help="minutes that are not tested (default: a third)")
    add("--every", type=float, default=5, help="seconds between samples (default: %(default)s)")
    add("--store", choices=("memory", "rocksdict"), default="rocksdict", help="(default: %(default)s)")
    add("--accounts", type=int, default=10_000, help="that send at a time (default: about %(default)s)")
    add("--rate", type=int, default=0, help="requests a second (default: as many as the worker takes)")
    add("--backlog", type=int, default=50_000, help="requests waiting, at most (default: %(default)s)")
    add("--seed", type=int, default=1, help="of the traffic (default: %(default)s)")
    add("--out", type=Path, metavar="FILE", help="write the report here as Markdown")
    add("--plot", type=Path, metavar="FILE", help="write a chart here as SVG")
    add("--samples", type=Path, metavar="FILE", default=Path(os.devnull), help="write each sample here as JSON lines")
    arguments = parser.parse_args(given)
    if arguments.warm_up is None:
        arguments.warm_up = arguments.minutes / 3
    return arguments


def main(given: list[str] | None = None) -> int:
    """Run; 0 when nothing grows, 1 when something does or the worker did not last, 2 where it cannot run."""
    arguments = _arguments(given)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        print("needs Linux and two cores: one for the worker, one for Kafka", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, set(cores[:-1]))
    about = circumstances(cores[-1])
    with TemporaryDirectory() as folder:
        broker = Broker(Path(folder) / "kafka", properties=BROKER_PROPERTIES)
        broker.start()
        try:
            samples, code = soak(arguments, Path(folder), broker, cores[-1])
        except RuntimeError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            broker.stop()
    tested = after_warm_up(samples, arguments.warm_up)
    found = [one for series in SERIES if (one := growth(series, tested)) is not None]
    text = report(about, arguments, tested, found)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    if arguments.plot:
        arguments.plot.write_text(chart(samples, arguments.warm_up), encoding="utf-8")
    print(text)
    return 1 if code != 0 or any(one.grows for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
