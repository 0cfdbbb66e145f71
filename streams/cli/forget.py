"""`stillwatch forget`: erase an account."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from aiokafka.errors import KafkaError

from schemas.request import is_account
from streams.cli.failures import broker_error
from streams.cli.options import CONNECTION, takes_settings
from streams.cli.terminal import OUT, plain, safe
from streams.exit_codes import ExitCode
from streams.forget import Carried, Order, Remains, what_remains
from streams.forget import forget as order_to_forget
from streams.settings import Settings
from streams.topics import TopicNames


@takes_settings(*CONNECTION, "group_id")
def forget(
    settings: Settings,
    account: Annotated[str, typer.Argument(help="The account, as its requests name it.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for workers that are behind.")] = 60.0,
) -> None:
    """Erase an account: all that is known of its behaviour. What it sends from now on starts anew.

    The order goes to the requests topic, and takes effect at its place among the account's requests: workers that run
    carry it out as soon as they come to it, and if none runs, the next one that does. Says at the end what remains of
    the account, where, and until when. Ends with exit code 0 when the account is erased, and with 1 when that is still
    to come.

    Example: [bold]stillwatch forget acct-17[/bold]
    """
    if not is_account(account):
        raise typer.BadParameter(f"{safe(account)!r} cannot be an account")
    try:
        order = asyncio.run(order_to_forget(settings, account, wait))
        remains = asyncio.run(what_remains(settings))
    except (KafkaError, OSError) as error:
        raise broker_error(f"brokers {settings.brokers}", error, settings) from None
    _report(settings, account, order, remains)
    if order.carried is not Carried.OUT:
        raise typer.Exit(ExitCode.UNKEPT)


def _report(settings: Settings, account: str, order: Order, remains: list[Remains]) -> None:
    place = f"record {order.offset} of {TopicNames.of(settings).requests}[{order.partition}]"
    name, group = safe(account), settings.group_id
    told = {
        Carried.OUT: f"{name} is erased: nothing before {place} counts any more",
        Carried.NO_WORKER: f"{name} is not erased yet: no worker of group {group} runs. The order is {place}, and the "
        f"next worker carries it out when it comes there ({order.behind} records before it)",
        Carried.NOT_YET: f"{name} is not erased yet: the workers are {order.behind} records away from the order, "
        f"{place}. They carry it out when they come there",
        Carried.PASSED_OVER: f"{name} is not erased: workers have read the order, {place}, and its state is still "
        "there. Are they of an older version? Else a worker that was stopped wrote it late: give the order again",
    }
    OUT.print(plain(told[order.carried], "" if order.carried is Carried.OUT else "yellow"))
    OUT.print(plain("What remains of it then:" if order.carried is not Carried.OUT else "What remains of it:"))
    width = max(len(place) for place, _ in remains)
    for where, what in remains:
        OUT.print(plain(f"  {where:{width}}  {what}"))
