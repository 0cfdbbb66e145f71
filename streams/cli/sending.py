"""Sending request events with a progress bar."""

from __future__ import annotations

from collections.abc import AsyncIterable

from aiokafka.errors import KafkaError

from streams.cli.failures import broker_error
from streams.cli.terminal import ERR, plain, progress_bar
from streams.sending import Sender, make_producer
from streams.settings import Settings
from streams.topics import TopicNames

SHOWN_EVERY = 50
"""Requests between two steps of the bar, which cost as much as sending one."""


async def send_lines(
    settings: Settings, batches: AsyncIterable[list[bytes]], total: int | None, rate: float | None
) -> None:
    """Send request events to the requests topic with a progress bar, each batch confirmed before the next is asked for.

    Raises
    ------
    BrokerError
        Brokers cannot be reached, or refused.
    """
    topic = TopicNames.of(settings).requests
    producer = make_producer(settings)
    try:
        await producer.start()
        with progress_bar("requests") as bar:
            task = bar.add_task(f"to {topic}", total=total)
            sender = Sender(producer, topic, rate)
            async for lines in batches:
                for line in lines:
                    await sender.send(line)
                    if sender.sent % SHOWN_EVERY == 0:
                        bar.update(task, completed=sender.sent)
                await sender.confirm()
                bar.update(task, completed=sender.sent)
    except (KafkaError, OSError) as error:
        raise broker_error(f"brokers {settings.brokers}, topic {topic}", error, settings) from None
    finally:
        await producer.stop()
    ERR.print(plain(f"{sender.sent} requests sent to {topic}"))
    if sender.unkeyed:
        ERR.print(plain(f"  {sender.unkeyed} without a readable account: the service will refuse them", "yellow"))
