"""`stillwatch canary`: a made-up extraction through the live service."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer
from aiokafka.errors import KafkaError

from streams.cli.failures import BrokerError, broker_error
from streams.cli.options import CONNECTION, MARKING, takes_settings
from streams.cli.terminal import ERR, OUT, plain
from streams.exit_codes import ExitCode
from streams.forget import Carried
from streams.settings import Settings, SettingsError
from streams.topic_window import TopicError

if TYPE_CHECKING:
    from streams.canary import Outcome


@takes_settings(*CONNECTION, *MARKING, "group_id", "baseline_file", "max_record_bytes")
def canary(
    settings: Settings,
    wait: Annotated[float, typer.Option(min=1, help="Seconds to wait for its alert.")] = 180.0,
) -> None:
    """Send a made-up extraction through the live service, and see that it is found: then silence means health.

    A fresh account, whose name begins with `canary_prefix`, sends a list of 800 exercises with times spread over the
    last twelve hours. Its alert is awaited, and the account is forgotten again. Workers that have the same
    `canary_prefix` mark the alert as a test, so that nobody is woken by it. Ends with exit code 0 when the alert came
    and is marked, and with 1 when not. Made for a schedule, every few hours.

    The prefix alone makes an account a test: draw it once (`openssl rand -hex 8`), and let nobody choose such names.

    Example: [bold]stillwatch canary --canary-prefix canary-$(openssl rand -hex 8)- --wait 300[/bold]
    """
    if not settings.canary_prefix:
        raise SettingsError("canary_prefix is not set: workers and `canary` need the same one")
    from streams.canary import send_canary  # here: loading takes seconds, which `--help` should not

    try:
        outcome = asyncio.run(send_canary(settings, wait, int(time.time() * 1000)))
    except TopicError as error:
        raise BrokerError(f"{error}; is the prefix right, and has `stillwatch topics create` been run?") from None
    except (KafkaError, OSError) as error:
        raise broker_error(f"brokers {settings.brokers}", error, settings) from None
    _tell_of_rest(outcome)
    if not _report(outcome):
        raise typer.Exit(ExitCode.UNKEPT)


def _report(outcome: Outcome) -> bool:
    """Say what became of it; whether all is well."""
    name, alert = outcome.account, outcome.alert
    if alert is None:
        ERR.print(
            plain(
                f"{name} was not found: no alert {outcome.seconds:.0f} s after its {outcome.requests} requests were "
                "sent. Do workers run, are they behind (stillwatch_lag_seconds), is the knob too strict for so few?",
                "red",
            )
        )
        return False
    found = f"{name} found {outcome.seconds:.1f} s after it was sent, at its request {outcome.requests}"
    if not alert.is_test:
        ERR.print(plain(f"{found}, but not marked as a test: set the same canary_prefix for the workers", "red"))
        return False
    OUT.print(plain(f"{found}; marked as a test"))
    return True


def _tell_of_rest(outcome: Outcome) -> None:
    if outcome.order.carried is not Carried.OUT:
        ERR.print(plain(f"{outcome.account} is not forgotten yet: workers do it when they come to the order", "yellow"))
