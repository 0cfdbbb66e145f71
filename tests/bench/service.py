"""How fast one worker process is on a real Kafka, beside stock Faust doing nothing, in the same run.

    python -m tests.bench.service [--requests 200000] [--accounts 10000] [--rare-accounts 100000] [--json FILE]

It starts its own Kafka (deploy/kafka) and fills topics of 4 partitions beforehand with requests that carry 256-number
embeddings (base64 float16, about 1.1 KB a record). Then one process after the other reads them, each pinned to one core
while Kafka and this script keep to another.

- *µs a request* is CPU time of the process, all its threads, between two commits of its group, over the records
  committed in between. Start-up, and the first part of each backlog, are left out.
- *Requests a second* is by the wall clock, between the same commits. On a machine that does other things too it says
  less than CPU time does; and stock Faust waits: an empty partition holds up its fetches for 1.5 s at a time.
- *Times stock* is how many of the requests of a stock Faust agent that does nothing fit into its CPU time, in this run.
- *Touched rarely*: requests go round all accounts, each in turn, so that every one of them finds its account in the
  store and none ready for scoring. Measured is the second half, when accounts have states.
- *Replay* is `stillwatch replay --topic`, the whole command less the same command on an empty stretch.
- *Alert latency*, on traffic with many findings: from handing a request to the producer (earlier than its record's
  append) to reading the alert that it caused, at 5,000 requests a second.
- *Starts* are from starting the process to the first /ready with 200, polled every 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from detectors.embedding import load_wordllama
from streams.settings import load_settings
from streams.simulation.traffic import simulate
from streams.topics import TopicNames, create_topics
from tests.bench.speed import machine
from tests.bench.speed_streams import make_streams, with_embeddings, with_the_usual_fields
from tests.integration.broker import Broker, start_broker
from tests.integration.streams.running import ROOT, Worker

PARTITIONS = 4
TEMPLATE_REQUESTS, TEMPLATE_ACCOUNTS = 15_000, 500
LATENCY_RATE = 5_000
STOCK = "stock Faust, doing nothing"

Event = dict[str, Any]


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


# ------------------------------------------------------------------------------------------------- traffic


def template(seed: int) -> list[Event]:
    """Requests of simulated accounts, which the streams below are copies of."""
    stream = make_streams(
        requests=TEMPLATE_REQUESTS,
        accounts=TEMPLATE_ACCOUNTS,
        embedder=load_wordllama(),
        seed=seed,
        advance=lambda: None,
    )[0]
    return [orjson.loads(line) for line in stream.lines.splitlines()]


def finding_traffic(seed: int) -> list[Event]:
    """Requests of few accounts, a third of which copy the model: many alerts."""
    events = simulate(seed=seed, days=4, organic=20, planted=10).events
    lines = with_embeddings([with_the_usual_fields(event) for event in events], load_wordllama()).lines
    return [orjson.loads(line) for line in lines.splitlines()]


def copies(events: list[Event], accounts: int) -> Iterator[Event]:
    """Every account so many times under other names that there are about `accounts`, the copies side by side."""
    number = max(1, round(accounts / len({event["account"] for event in events})))
    for event in events:
        for copy in range(number):
            yield _renamed(event, f"{event['account']}-{copy}", copy)


def in_turn(events: list[Event], accounts: int) -> Iterator[Event]:
    """Requests of `accounts` accounts, each in its turn, without end."""
    number, start, times = 0, events[0]["time"], len(events)
    while True:
        event = events[number % times]
        yield _renamed(event, f"rare-{number % accounts}", number) | {"time": start + number}
        number += 1


def _renamed(event: Event, account: str, copy: int) -> Event:
    links = {kind: f"{value}-{account}" for kind, value in event["links"].items()}
    return event | {"account": account, "id": f"{event['id']}-{copy}", "org": f"org-{account}", "links": links}


def produce(bootstrap: str, topic: str, events: Iterator[Event]) -> int:
    """Fill a topic; number of records."""
    producer = _producer(bootstrap)
    number = 0
    for event in events:
        number += 1
        _send(producer, topic, event)
    producer.flush()
    return number


def _producer(bootstrap: str) -> Producer:
    return Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 5})


def _send(producer: Producer, topic: str, event: Event) -> None:
    while True:
        try:
            producer.produce(topic, orjson.dumps(event), event["account"].encode())
        except BufferError:
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


# ------------------------------------------------------------------------------------------------- a process


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, all threads, in the kernel and outside."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _has_ended(pid: int) -> bool:
    return not Path(f"/proc/{pid}/cmdline").read_bytes()  # that of a zombie is empty


async def watch(bootstrap: str, topic: str, group: str, pid: int, *, skip: float, seconds: float) -> Rate:
    """Follow a group through a topic, or `seconds` of it after the first `skip` of the records."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        total = sum((await consumer.end_offsets(partitions)).values())
        samples: list[Sample] = []
        end = time.monotonic() + 120
        while time.monotonic() < end and (not samples or samples[-1].committed < total):
            if _has_ended(pid):
                raise RuntimeError(f"the process that reads {topic} as {group} ended")
            committed = sum([await consumer.committed(tp) or 0 for tp in partitions])
            if committed >= skip * total and (not samples or committed > samples[-1].committed):
                if not samples:
                    end = time.monotonic() + seconds
                samples.append(Sample(time.monotonic(), cpu_seconds(pid), committed))
            await asyncio.sleep(0.02)
    finally:
        await consumer.stop()
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

    async def rate(self, prefix: str, *, skip: float, seconds: float, **settings: Any) -> tuple[Rate, float]:
        """What a worker takes for a backlog; and its number of alerts."""
        with self.worker(prefix, **settings) as worker:
            topic = f"{prefix}requests"
            pid = worker.process.pid
            rate = await watch(self.broker.bootstrap, topic, prefix + "group", pid, skip=skip, seconds=seconds)
            return rate, worker.metric("stillwatch_findings_total")

    async def peer(self, what: str, topic: str, *, seconds: float) -> Rate:
        """What stock Faust or aiokafka takes for the same."""
        group = f"peer-{what}"
        process = self._start_peer(what, topic, group)
        try:
            return await watch(self.broker.bootstrap, topic, group, process.pid, skip=0.1, seconds=seconds)
        except RuntimeError as error:
            error.add_note((self.folder / f"{what}.log").read_text(errors="replace")[-2000:])
            raise
        finally:
            process.kill()
            process.wait()

    def _start_peer(self, what: str, topic: str, group: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.bench.service_peers", what, self.broker.bootstrap, topic, group]
        with (self.folder / f"{what}.log").open("wb") as log:
            process = subprocess.Popen([*command, str(self.folder / what)], cwd=ROOT, stdout=log, stderr=log)
        os.sched_setaffinity(process.pid, {self.core})
        return process

    def replay(self, topic: str, requests: int) -> Rate:
        """What `replay --topic` takes."""
        (nothing_cpu, nothing_wall), (cpu, wall) = self._replay(topic, "--until", "1970-01-02"), self._replay(topic)
        return Rate(1e6 * (cpu - nothing_cpu) / requests, requests / (wall - nothing_wall), requests)

    def _replay(self, topic: str, *flags: str) -> tuple[float, float]:
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = [sys.executable, "-m", "streams.cli", "replay", "--brokers", self.broker.bootstrap, "--topic", topic]
        subprocess.run(
            [*command, "--out", os.devnull, *flags],
            cwd=ROOT,
            check=True,
            capture_output=True,
            preexec_fn=partial(os.sched_setaffinity, 0, {self.core}),
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return cpu, time.monotonic() - begin

    def start(self, prefix: str, **settings: Any) -> float:
        """Seconds from the start of a worker until it is ready."""
        begin = time.monotonic()
        with self.worker(prefix, **settings) as worker:
            while worker.get("/ready")[0] != 200:
                if worker.process.poll() is not None or time.monotonic() - begin > 120:
                    raise RuntimeError(f"the worker was not ready:\n{worker.log}")
                time.sleep(0.02)
            return time.monotonic() - begin

    async def latency(self, names: TopicNames, prefix: str, events: list[Event]) -> dict[str, float]:
        """Milliseconds from sending to reading the alert, of requests at `LATENCY_RATE`."""
        with self.worker(prefix, store="memory") as worker:
            worker.wait_ready()
            sent: dict[tuple[str, int], float] = {}
            sending = asyncio.create_task(asyncio.to_thread(self._paced, names.requests, events, sent))
            waits = await self._alerts(names.alerts, sent, sending)
        if not waits:
            return {"alerts": 0}
        p50, p99 = np.percentile(waits, [50, 99])
        return {"alerts": len(waits), "p50": float(p50), "p99": float(p99), "max": max(waits)}

    def _paced(self, topic: str, events: list[Event], sent: dict[tuple[str, int], float]) -> None:
        producer, begin = _producer(self.broker.bootstrap), time.time()
        for number, event in enumerate(events):
            if (ahead := begin + number / LATENCY_RATE - time.time()) > 0.002:
                producer.poll(0)
                time.sleep(ahead)
            sent[event["account"], event["time"]] = time.time()
            _send(producer, topic, event)
        producer.flush()

    async def _alerts(self, topic: str, sent: dict[tuple[str, int], float], sending: asyncio.Task[None]) -> list[float]:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=self.broker.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=20
        )
        await consumer.start()
        waits: list[float] = []
        try:
            last = time.monotonic()
            while not sending.done() or time.monotonic() - last < 5:
                if not sending.done():
                    last = time.monotonic()
                for records in (await consumer.getmany(timeout_ms=50)).values():
                    now = time.time()
                    for record in records:
                        moment = sent.get(((record.key or b"").decode(), orjson.loads(record.value or b"")["time"]))
                        if moment is not None:
                            waits.append(1000 * (now - moment))
            await sending
        finally:
            await consumer.stop()
        return waits


# ------------------------------------------------------------------------------------------------- the run


async def measure(service: Service, arguments: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    """Everything, in turn."""
    requests, rare, seconds = arguments.requests, arguments.rare_accounts, arguments.seconds
    tell("making traffic")
    events = template(arguments.seed)
    bootstrap = service.broker.bootstrap
    names = await service.topics("whole.")
    sent = produce(bootstrap, names.requests, islice(copies(events, arguments.accounts), requests))
    rates: dict[str, Rate] = {}
    tell("stock Faust and aiokafka")
    rates[STOCK] = await service.peer("stock", names.requests, seconds=seconds)
    rates["stock Faust, a table write"] = await service.peer("stock-table", names.requests, seconds=seconds)
    rates["aiokafka getmany"] = await service.peer("getmany", names.requests, seconds=seconds)
    tell("whole path")
    whole = f"whole path, {arguments.accounts:,} accounts"
    rates[whole], alerts = await service.rate("whole.", skip=0.2, seconds=seconds, store="memory")
    tell("replay from the topic")
    rates["replay from the topic"] = service.replay(names.requests, sent)
    starts: dict[str, float] = {}
    for store in ("memory", "rocksdict"):
        tell(f"{rare:,} accounts, {store}")
        prefix = f"rare-{store}."
        topics = await service.topics(prefix)
        produce(bootstrap, topics.requests, islice(in_turn(events, rare), max(requests, 2 * rare)))
        name = f"whole path, {rare:,} accounts in turn, {store}"
        held = {"store": store, "max_accounts": 2 * rare}
        rates[name], _ = await service.rate(prefix, skip=0.5, seconds=120, **held)
        cold = held | {"data_dir": service.folder / f"cold-{store}"}
        starts[f"cold start, {rare:,} accounts, {store}"] = service.start(prefix, **cold)
    starts[f"restart, {rare:,} accounts, rocksdict and its data"] = service.start("rare-rocksdict.", store="rocksdict")
    tell("start with nothing to restore, and alert latency")
    names = await service.topics("latency.")
    starts["start with nothing to restore"] = service.start("latency.", store="memory")
    finding = finding_traffic(arguments.seed)
    number = arguments.latency_seconds * LATENCY_RATE
    accounts = len({event["account"] for event in finding}) * math.ceil(number / len(finding))
    stretch = list(islice(copies(finding, accounts), number))
    latency = await service.latency(names, "latency.", stretch)
    return {"rates": {n: r._asdict() for n, r in rates.items()}, "alerts": alerts, "starts": starts, "latency": latency}


def show(console: Console, found: dict[str, Any]) -> None:
    """Print what was found."""
    stock = found["rates"][STOCK]
    table = Table(title="One process on one core", title_justify="left")
    table.add_column("path", no_wrap=True)
    for heading in ("µs a request", "requests a second", "times stock, CPU", "times stock, by wall"):
        table.add_column(heading, justify="right")
    for name, rate in found["rates"].items():
        table.add_row(
            name,
            f"{rate['microseconds']:.1f}",
            f"{rate['requests_a_second']:,.0f}",
            f"{stock['microseconds'] / rate['microseconds']:.2f}",
            f"{rate['requests_a_second'] / stock['requests_a_second']:.2f}",
        )
    console.print(table)
    for name, seconds in found["starts"].items():
        console.print(f"{name}: {seconds:.1f} s")
    latency = ", ".join(f"{name} {value:,.0f}" for name, value in found["latency"].items())
    console.print(
        f"alert latency at {LATENCY_RATE:,} a second (ms): {latency}; alerts of the whole path: {found['alerts']}"
    )


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.service", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200_000, help="records of a backlog (default: %(default)s)")
    parser.add_argument("--accounts", type=int, default=10_000, help="that send them (default: about %(default)s)")
    parser.add_argument("--rare-accounts", type=int, default=100_000, help="touched rarely (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=15, help="at most, of a backlog (default: %(default)s)")
    parser.add_argument("--latency-seconds", type=int, default=20, help="of steady traffic (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here as well")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Run the benchmark; 0, or 2 where processes cannot be kept apart."""
    arguments = _arguments(given)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        print("needs Linux and two cores: one for the worker, one for Kafka", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, set(cores[:-1]))
    errors, console = Console(stderr=True, highlight=False), Console(highlight=False, width=120)
    begin = time.monotonic()
    with TemporaryDirectory() as folder:
        broker = start_broker(Path(folder) / "kafka")
        try:
            service = Service(broker, Path(folder), cores[-1])
            found = asyncio.run(
                measure(service, arguments, lambda what: errors.print(f"{time.monotonic() - begin:4.0f} s  {what}"))
            )
        finally:
            broker.stop()
    about = machine(cores[-1])
    console.print(", ".join(f"{key} {value}" for key, value in about.items()))
    show(console, found)
    if arguments.json:
        arguments.json.write_bytes(orjson.dumps({"machine": about} | found, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
