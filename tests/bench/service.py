"""How fast one worker process is on a real Kafka, beside stock Faust doing nothing, in the same run.

    python -m tests.bench.service [--passes 3] [--accounts 1000000] [--out FILE.md] [--json FILE]
    python -m tests.bench.service --profile FILE.svg [--path rare]

It starts its own Kafka (deploy/kafka) with topics of 4 partitions, and fills them beforehand with requests that carry
256-number embeddings (base64 float16, about 1.1 KB a record) or prompts. Then one process after the other reads them,
each pinned to one core while Kafka and this script keep to another. All is measured once in every pass, so that no
path has the quiet minutes to itself; shown are the median of the passes and their least and most. Files are written
after each pass, so a run that is cut short leaves those that it made.

- *µs a request* is CPU time of the process, all its threads, between two commits of its group, over the records
  committed in between. Start-up, and the first part of each backlog, are left out.
- *Requests a second* is by the wall clock, between the same commits. On a machine that does other things too it says
  less than CPU time does; and stock Faust waits: an empty partition holds up its fetches for 1.5 s at a time.
- *Times stock* is how many of the requests of a stock Faust agent that does nothing fit into its CPU time, in the same
  pass.
- *New accounts*: each request is the first of its account. *Touched rarely*: when all of them (a million) have states,
  a random part sends one more each, so that every request finds its account in the store and none ready for scoring.
- *Replay* is `stillwatch replay` of the topic or a file, the whole command less the same command on nothing.
- *Alert latency*, on traffic with many findings that come at moments of their own (`service_traffic.Relay`): from
  before a request is handed to the producer (so earlier than its record's append) to reading the alert that it caused,
  at 5,000 requests a second, once the worker has been running at that rate for some seconds.
- *Starts* are from starting the process to the first /ready with 200, polled every 20 ms.

With --profile it measures nothing: py-spy looks at a worker that has a backlog, and writes a flame graph (.svg) or a
file for speedscope.app (.json).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.alert import Activity
from streams.settings import load_settings
from streams.topics import TopicNames, create_topics
from tests.bench.service_report import STOCK, as_markdown, circumstances
from tests.bench.service_traffic import (
    Feed,
    Mould,
    Record,
    Relay,
    Sendings,
    copies,
    fill,
    of_accounts,
    usual,
    with_findings,
)
from tests.integration.broker import Broker, start_broker
from tests.integration.streams.running import ROOT, Worker, wait_until

PARTITIONS = 4
TEMPLATE_REQUESTS, TEMPLATE_ACCOUNTS = 15_000, 500
ACCOUNTS = 10_000
START_ACCOUNTS = 100_000
SHORT_PROMPTS, LONG_PROMPTS = 60_000, 6_000

LATENCY_RATE = 5_000
LATENCY_WARM_SECONDS = 8
SENDING_SECONDS = 0.01
RELAY_START = 1_700_000_000_000

START_SECONDS = 300
BACKLOG_SECONDS = 300
POLL_SECONDS = 0.05
PROFILE_SECONDS = 8
PROFILE_RATE = 200


class Sample(NamedTuple):
    """A moment at which the group's commit was seen to move."""

    wall: float
    cpu: float
    committed: int


class Rate(NamedTuple):
    """What a path took."""

    microseconds: float
    requests_a_second: float
    requests: int


# ------------------------------------------------------------------------------------------------- a process


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, all threads, in the kernel and outside."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> dict[str, int]:
    """Resident bytes of a process: now, and the most so far."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"now": int(fields["VmRSS"].split()[0]) * 1024, "most": int(fields["VmHWM"].split()[0]) * 1024}


def folder_bytes(folder: Path) -> int:
    """Bytes on disk of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:  # RocksDB deletes files as it goes
            continue
    return total


@asynccontextmanager
async def reader_of(bootstrap: str, group: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A client that looks at what a group has committed and takes no part in it."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def watch(
    bootstrap: str, topic: str, group: str, process: subprocess.Popen[bytes], *, begin: int, seconds: float
) -> Rate:
    """Follow a group through a topic to its end, or for `seconds` from the time that it has committed `begin` records.

    Raises `RuntimeError` when the process ends before, or gets nowhere.
    """
    async with reader_of(bootstrap, group) as consumer:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        total = sum((await consumer.end_offsets(partitions)).values())
        samples: list[Sample] = []
        end = time.monotonic() + BACKLOG_SECONDS
        while time.monotonic() < end and (not samples or samples[-1].committed < total):
            if process.poll() is not None:
                raise RuntimeError(f"the process that reads {topic} as {group} ended with {process.returncode}")
            committed = sum([await consumer.committed(tp) or 0 for tp in partitions])
            if committed >= begin and (not samples or committed > samples[-1].committed):
                if not samples:
                    end = time.monotonic() + seconds
                samples.append(Sample(time.monotonic(), cpu_seconds(process.pid), committed))
            await asyncio.sleep(POLL_SECONDS)
    return _rate(samples, total)


def _rate(samples: list[Sample], total: int) -> Rate:
    """From the first to the last sample; not to the one that reaches the end, which waited for its time to come."""
    if len(samples) > 2 and samples[-1].committed == total:
        samples = samples[:-1]
    if len(samples) < 2:
        raise RuntimeError(f"too few commits were seen: {samples}. Give more --requests")
    first, last = samples[0], samples[-1]
    requests = last.committed - first.committed
    return Rate(1e6 * (last.cpu - first.cpu) / requests, requests / (last.wall - first.wall), requests)


class Service:
    """The broker, and processes beside it one at a time on a core of their own."""

    def __init__(self, broker: Broker, folder: Path, core: int) -> None:
        self.broker, self.folder, self.core = broker, folder, core

    async def topics(self, prefix: str) -> TopicNames:
        """Make the topics of a prefix."""
        settings = load_settings(brokers=self.broker.bootstrap, topic_prefix=prefix, partitions=PARTITIONS)
        await create_topics(settings)
        return TopicNames.of(settings)

    async def backlog(self, prefix: str, records: Iterable[Record]) -> int:
        """Add records to the requests of a prefix, whose topics are made when they are not there; their number."""
        names = await self.topics(prefix)
        return await fill(self.broker.bootstrap, names.requests, PARTITIONS, records)

    @contextmanager
    def worker(self, prefix: str, **settings: Any) -> Iterator[Worker]:
        """A worker while the context lasts."""
        given = {"brokers": self.broker.bootstrap, "topic_prefix": prefix, "group_id": prefix + "group"}
        worker = Worker(self.folder, given | {"data_dir": self.folder / prefix, "log_level": "WARNING"} | settings)
        os.sched_setaffinity(worker.process.pid, {self.core})
        try:
            yield worker
            if worker.stop() != 0:
                raise RuntimeError(f"the worker ended badly:\n{worker.log}")
        finally:
            worker.kill()

    async def follow(self, worker: Worker, prefix: str, *, begin: int, seconds: float = BACKLOG_SECONDS) -> Rate:
        """What a worker takes for a backlog from the record number `begin` on."""
        topic, group = f"{prefix}requests", prefix + "group"
        try:
            return await watch(self.broker.bootstrap, topic, group, worker.process, begin=begin, seconds=seconds)
        except RuntimeError as error:
            error.add_note(worker.log[-2000:])
            raise

    async def peer(self, what: str, topic: str, *, begin: int, seconds: float) -> Rate:
        """What stock Faust or aiokafka takes for the same."""
        group = f"{what}-{topic}"
        process = self._start_peer(what, topic, group)
        try:
            return await watch(self.broker.bootstrap, topic, group, process, begin=begin, seconds=seconds)
        except RuntimeError as error:
            error.add_note((self.folder / f"{group}.log").read_text(errors="replace")[-2000:])
            raise
        finally:
            process.kill()
            process.wait()

    def _start_peer(self, what: str, topic: str, group: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.bench.service_peers", what, self.broker.bootstrap, topic, group]
        with (self.folder / f"{group}.log").open("wb") as log:
            process = subprocess.Popen([*command, str(self.folder / group)], cwd=ROOT, stdout=log, stderr=log)
        os.sched_setaffinity(process.pid, {self.core})
        return process

    def replay(self, requests: int, nothing: tuple[str, ...], whole: tuple[str, ...]) -> Rate:
        """What `replay` takes, given its arguments for nothing and for all of `requests`."""
        (nothing_cpu, nothing_wall), (cpu, wall) = self._replay(*nothing), self._replay(*whole)
        return Rate(1e6 * (cpu - nothing_cpu) / requests, requests / (wall - nothing_wall), requests)

    def _replay(self, *arguments: str) -> tuple[float, float]:
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli", "replay", "--out", os.devnull, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            preexec_fn=partial(os.sched_setaffinity, 0, {self.core}),
        )
        if done.returncode != 0:
            raise RuntimeError(f"replay ended with {done.returncode}: {done.stderr[-2000:]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu, time.monotonic() - begin

    @contextmanager
    def ready(self, prefix: str, **settings: Any) -> Iterator[tuple[Worker, float]]:
        """A worker that is ready, and the seconds from its start until it was."""
        begin = time.monotonic()
        with self.worker(prefix, **settings) as worker:
            while worker.get("/ready")[0] != 200:
                if worker.process.poll() is not None or time.monotonic() - begin > START_SECONDS:
                    raise RuntimeError(f"the worker was not ready:\n{worker.log}")
                time.sleep(0.02)
            yield worker, time.monotonic() - begin

    def start(self, prefix: str, **settings: Any) -> float:
        """Seconds from the start of a worker until it is ready."""
        with self.ready(prefix, **settings) as (_, seconds):
            return seconds

    async def latency(self, prefix: str, traffic: Iterator[Record], seconds: int) -> list[float]:
        """Milliseconds from sending a request to reading its alert, of all in `seconds` at `LATENCY_RATE`."""
        names = await self.topics(prefix)
        with self.ready(prefix, store="memory"):
            sendings = Sendings()
            sending = asyncio.create_task(
                self._paced(names.requests, traffic, LATENCY_WARM_SECONDS + seconds, sendings)
            )
            return await self._alerts(names.alerts, sendings, sending)

    async def _paced(self, topic: str, traffic: Iterator[Record], seconds: int, sendings: Sendings) -> float:
        """Send; returns from when on (epoch seconds) alerts count."""
        async with Feed(self.broker.bootstrap, topic, PARTITIONS) as feed:
            begin = time.time()
            while (passed := time.time() - begin) < seconds:
                due = list(islice(traffic, max(0, int(passed * LATENCY_RATE) - feed.sent)))
                if due:
                    sendings.note(due[0].time)
                    await feed.send(due)
                await asyncio.sleep(SENDING_SECONDS)
        return begin + LATENCY_WARM_SECONDS

    async def _alerts(self, topic: str, sendings: Sendings, sending: asyncio.Task[float]) -> list[float]:
        found: list[tuple[float, float]] = []
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=self.broker.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=20
        )
        await consumer.start()
        try:
            end = float("inf")
            while time.monotonic() < end:
                for records in (await consumer.getmany(timeout_ms=50)).values():
                    found += alert_waits(records, sendings)
                if sending.done() and end == float("inf"):
                    end = time.monotonic() + 3
            counts_from = await sending
        finally:
            sending.cancel()
            await consumer.stop()
        return [wait for sent, wait in found if sent >= counts_from]


def alert_waits(records: Iterable[Any], sendings: Sendings) -> list[tuple[float, float]]:
    """Of alerts just read that requests caused: when these were sent (epoch seconds), and milliseconds up to now."""
    now = time.time()
    waits = []
    for record in records:
        alert = orjson.loads(record.value)
        sent = sendings.moment(alert["time"])
        if sent is not None and alert["activity_id"] != Activity.CLOSE:
            waits.append((sent, 1000 * (now - sent)))
    return waits


# ------------------------------------------------------------------------------------------------- the run


class Run:
    """All that is measured, pass by pass; what fails in a pass is told, and the rest goes on."""

    def __init__(
        self, service: Service, given: argparse.Namespace, tell: Callable[[str], None], after_pass: Callable[[], None]
    ) -> None:
        self._service, self._given, self._tell, self._after_pass = service, given, tell, after_pass
        self.rates: defaultdict[str, dict[int, Rate]] = defaultdict(dict)
        self.starts: defaultdict[str, list[float]] = defaultdict(list)
        self.memory: defaultdict[str, list[dict[str, int]]] = defaultdict(list)
        self.waits: list[list[float]] = []
        self.failures: list[str] = []
        self.loads: list[float] = []

    async def all(self) -> None:
        """Everything, in turn."""
        given, service = self._given, self._service
        self._tell("making traffic")
        self._traffic = usual(TEMPLATE_REQUESTS, TEMPLATE_ACCOUNTS, given.seed)
        self._finding = with_findings(given.seed, organic=20, planted=10)
        self._file = service.folder / "requests.jsonl"
        with self._file.open("wb") as file:
            file.writelines(record.value + b"\n" for record in self._whole())
        self._order = np.random.default_rng(given.seed).permutation(given.accounts)
        await service.backlog("starts.", of_accounts(self._embeddings, range(START_ACCOUNTS), 0))
        await self._try("states of 100,000 accounts", self._make_states)
        for number in range(given.passes):
            for what, part in (
                ("stock Faust and aiokafka", self._peers),
                ("whole path", self._whole_path),
                ("replay", self._replays),
                ("prompts", self._prompts),
                (f"{given.accounts:,} accounts, memory", partial(self._rare, "memory")),
                (f"{given.accounts:,} accounts, rocksdict", partial(self._rare, "rocksdict")),
                ("starts", self._starts),
                ("alert latency", self._latency),
            ):
                await self._try(f"pass {number + 1}: {what}", partial(part, number))
            self.loads.append(os.getloadavg()[2])
            self._after_pass()

    async def _try(self, what: str, part: Callable[[], Awaitable[None]]) -> None:
        self._tell(what)
        try:
            await part()
        except Exception as error:
            words = "\n".join([f"{what}: {type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
            self.failures.append(words)
            self._tell(f"FAILED {words}")

    @property
    def _embeddings(self) -> list[Mould]:
        return self._traffic["embeddings"]

    def _whole(self) -> Iterator[Record]:
        return islice(copies(self._embeddings, ACCOUNTS), self._given.requests)

    async def _make_states(self) -> None:
        with self._service.worker("starts.", store="rocksdict") as worker:
            await self._service.follow(worker, "starts.", begin=1)

    async def _peers(self, number: int) -> None:
        prefix, requests = f"whole-{number}.", self._given.requests
        await self._service.backlog(prefix, self._whole())
        for what, name in (
            ("stock", STOCK),
            ("stock-table", "stock Faust, a table write"),
            ("getmany", "aiokafka `getmany`"),
        ):
            self.rates[name][number] = await self._service.peer(
                what, f"{prefix}requests", begin=requests // 10, seconds=self._given.seconds
            )

    async def _whole_path(self, number: int) -> None:
        prefix = f"whole-{number}."
        with self._service.worker(prefix, store="memory") as worker:
            rate = await self._service.follow(worker, prefix, begin=self._given.requests // 5)
        self.rates[f"whole path, {ACCOUNTS:,} accounts"][number] = rate

    async def _replays(self, number: int) -> None:
        requests = self._given.requests
        nothing = self._service.folder / "nothing.jsonl"
        nothing.touch()
        self.rates["`replay` from a file"][number] = self._service.replay(requests, (str(nothing),), (str(self._file),))
        topic = ("--brokers", self._service.broker.bootstrap, "--topic", f"whole-{number}.requests")
        self.rates["`replay` from a topic"][number] = self._service.replay(
            requests, (*topic, "--until", "1970-01-02"), topic
        )

    async def _prompts(self, number: int) -> None:
        for kind, words, requests in (("short", 20, SHORT_PROMPTS), ("long", 600, LONG_PROMPTS)):
            prefix = f"{kind}-{number}."
            records = islice(copies(self._traffic[f"{kind} prompts"], ACCOUNTS), requests)
            await self._service.backlog(prefix, records)
            with self._service.worker(prefix, store="memory", checkpoint_interval_seconds=0.5) as worker:
                rate = await self._service.follow(worker, prefix, begin=requests // 5)
            self.rates[f"whole path, prompts of about {words} words"][number] = rate

    async def _rare(self, store: str, number: int) -> None:
        """A part of the accounts once more; all of them first, when this is the first pass."""
        accounts, service, prefix = self._given.accounts, self._service, f"rare-{store}."
        part = min(self._given.rare_requests, accounts // self._given.passes)
        held = {"store": store, "max_accounts": 2 * accounts}
        if number == 0:
            await service.backlog(prefix, of_accounts(self._embeddings, range(accounts), 0))
            with service.worker(prefix, **held) as worker:
                rate = await service.follow(worker, prefix, begin=accounts // 10)
                self.rates[f"new accounts up to {accounts:,}, {store}"][number] = rate
                await self._rare_part(worker, prefix, number * part, part, store, number)
            return
        first = accounts + number * part
        with service.ready(prefix, **held) as (worker, seconds):
            again = "cold start" if store == "memory" else "restart with its data"
            self.starts[f"{again}, {accounts:,} accounts, {store}"].append(seconds)
            await self._rare_part(worker, prefix, first - accounts, part, store, number)

    async def _rare_part(self, worker: Worker, prefix: str, start: int, part: int, store: str, number: int) -> None:
        accounts, order = self._given.accounts, self._order[start : start + part].tolist()
        await self._service.backlog(prefix, of_accounts(self._embeddings, order, accounts + start))
        begin = accounts + start + part // 10
        rate = await self._service.follow(worker, prefix, begin=begin)
        self.rates[f"{accounts:,} accounts touched rarely, {store}"][number] = rate
        self.memory[store].append(
            memory(worker.process.pid) | {"data_dir": folder_bytes(self._service.folder / prefix)}
        )

    async def _starts(self, number: int) -> None:
        service = self._service
        for store in ("memory", "rocksdict"):
            name = f"cold start, {START_ACCOUNTS:,} accounts, {store}"
            cold = service.folder / f"cold-{store}-{number}"
            self.starts[name].append(service.start("starts.", store=store, data_dir=cold))
        name = f"restart with its data, {START_ACCOUNTS:,} accounts, rocksdict"
        self.starts[name].append(service.start("starts.", store="rocksdict"))
        await service.topics("empty.")
        self.starts["start with nothing to restore"].append(service.start("empty.", store="memory"))

    async def _latency(self, number: int) -> None:
        seconds = self._given.latency_seconds
        whole = (LATENCY_WARM_SECONDS + seconds) * LATENCY_RATE
        relay = Relay(self._finding, max(1, round(whole / len(self._finding))), RELAY_START)
        waits = await self._service.latency(f"latency-{number}.", iter(relay), seconds)
        if not waits:
            raise RuntimeError("no alert came")
        self.waits.append(waits)

    def found(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        return {
            "given": {name: value for name, value in vars(self._given).items() if isinstance(value, int | float)}
            | {"passes": len(self.loads)},
            "loads": self.loads,
            "rates": {
                name: {str(number): rate._asdict() for number, rate in of.items()} for name, of in self.rates.items()
            },
            "starts": dict(self.starts),
            "memory": dict(self.memory),
            "waits": self.waits,
            "latency_rate": LATENCY_RATE,
            "failures": self.failures,
        }


# ------------------------------------------------------------------------------------------------- the profile


async def profile(service: Service, given: argparse.Namespace) -> None:
    """Have py-spy look at a worker on a backlog of one path, for some seconds."""
    embeddings = usual(TEMPLATE_REQUESTS, TEMPLATE_ACCOUNTS, given.seed)["embeddings"]
    prefix, rare = "profile.", given.path == "rare"
    accounts = min(given.accounts, START_ACCOUNTS)
    if rare:
        held = {"store": "rocksdict"}
        records: Iterable[Record] = of_accounts(embeddings, range(accounts), 0)
        more = list(range(accounts)) * (1 + given.requests // accounts)
        records = [*records, *of_accounts(embeddings, more, accounts)]
    else:
        held, records = {"store": "memory"}, islice(copies(embeddings, ACCOUNTS), 2 * given.requests)
    await service.backlog(prefix, records)
    begin = accounts if rare else given.requests // 5
    with service.worker(prefix, **held) as worker:
        await asyncio.to_thread(
            wait_until, lambda: worker.metric("stillwatch_records_total") >= begin, BACKLOG_SECONDS, worker
        )
        kind = "speedscope" if given.profile.suffix == ".json" else "flamegraph"
        command = ["py-spy", "record", "--pid", str(worker.process.pid), "--duration", str(PROFILE_SECONDS)]
        command += ["--rate", str(PROFILE_RATE), "--format", kind, "--output", str(given.profile)]
        await asyncio.to_thread(subprocess.run, command, check=True)


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.service", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--passes", type=int, default=3, help="over everything (default: %(default)s)")
    add("--requests", type=int, default=300_000, help="records of a backlog (default: %(default)s)")
    add("--accounts", type=int, default=1_000_000, help="that are touched rarely (default: %(default)s)")
    add("--rare-requests", type=int, default=200_000, help="of them in a pass (default: %(default)s)")
    add("--seconds", type=float, default=8, help="at most, of stock Faust and aiokafka (default: %(default)s)")
    add("--latency-seconds", type=int, default=30, help="of steady traffic in a pass (default: %(default)s)")
    add("--seed", type=int, default=1, help="of the traffic (default: %(default)s)")
    add("--out", type=Path, metavar="FILE", help="write the tables here as Markdown")
    add("--json", type=Path, metavar="FILE", help="write all figures here")
    add("--profile", type=Path, metavar="FILE", help="measure nothing; write a flame graph of a worker here (py-spy)")
    add("--path", choices=("whole", "rare"), default="whole", help="of the profile (default: %(default)s)")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Run the benchmark; 0, 1 when a part of it failed, or 2 where it cannot run."""
    arguments = _arguments(given)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        print("needs Linux and two cores: one for the worker, one for Kafka", file=sys.stderr)
        return 2
    if arguments.profile and shutil.which("py-spy") is None:
        print("--profile needs py-spy (pip install py-spy)", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, set(cores[:-1]))
    begin = time.monotonic()

    def tell(what: str) -> None:
        print(f"{time.monotonic() - begin:4.0f} s  {what}", file=sys.stderr, flush=True)

    about = circumstances(cores[-1])
    with TemporaryDirectory() as folder:
        broker = start_broker(Path(folder) / "kafka")
        try:
            service = Service(broker, Path(folder), cores[-1])
            if arguments.profile:
                asyncio.run(profile(service, arguments))
                return 0

            def save() -> None:
                found = {"circumstances": about | {"seconds": time.monotonic() - begin}} | run.found()
                if arguments.json:
                    arguments.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
                if arguments.out:
                    arguments.out.write_text(as_markdown(found), encoding="utf-8")

            run = Run(service, arguments, tell, save)
            asyncio.run(run.all())
        finally:
            broker.stop()
    print(as_markdown({"circumstances": about | {"seconds": time.monotonic() - begin}} | run.found()))
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main())
