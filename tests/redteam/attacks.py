"""Extraction accounts: every evasion applied to a base list.

The lists and the organic accounts beside them come from `Sources`, made by code or composed from real text. An attack
gives the account's events and the ids of the list's prompts among them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from detectors.embedding import load_wordllama
from tests.redteam import evasions as e
from tests.redteam.customers import users_of_an_app
from tests.redteam.sources import Source, Sources
from tests.redteam.traffic import Evasion, Event, Events, chained

Attack = Callable[[Sources, str, Random], tuple[Events, set[str]]]
"""`attack(sources, account, rng)`."""

EMBEDDER = load_wordllama()


def ids_of(events: list[Event]) -> set[str]:
    """Ids of the list's prompts."""
    return {str(event["id"]) for event in events}


def _sweep(sources: Sources) -> Source:
    return sources.sweep


def _plain(base: Callable[[Sources], Source]) -> Attack:
    """A list without an evasion."""

    def attack(sources: Sources, account: str, rng: Random) -> tuple[Events, set[str]]:
        events = base(sources)(account, rng)
        return events, ids_of(events)

    return attack


def _hidden(evasion: Callable[..., Events], **options: Any) -> Attack:
    """A sweep under an evasion that needs nothing else."""

    def attack(sources: Sources, account: str, rng: Random) -> tuple[Events, set[str]]:
        events = sources.sweep(account, rng)
        return evasion(events, rng, **options), ids_of(events)

    return attack


def _beside(
    evasion: Callable[..., Events], role: str, kind: Callable[[Sources], Source] = lambda s: s.person, **options: Any
) -> Attack:
    """A sweep under an evasion that needs an organic account's events as its argument `role`."""

    def attack(sources: Sources, account: str, rng: Random) -> tuple[Events, set[str]]:
        events = sources.sweep(account, rng)
        organic = kind(sources)(f"{account}/organic", rng)
        return evasion(events, rng, **{role: organic}, **options), ids_of(events)

    return attack


def _as_person(*more: Evasion) -> Attack:
    """Evasions after another, then a person's gaps."""

    def attack(sources: Sources, account: str, rng: Random) -> tuple[Events, set[str]]:
        events = sources.sweep(account, rng)
        gaps = partial(e.copied_gaps, organic=sources.person(f"{account}/organic", rng))
        return chained(*more, gaps)(events, rng), ids_of(events)

    return attack


def _service(sources: Sources) -> Source:
    return sources.service


def _app(sources: Sources) -> Source:
    """An app whose users are named and are what they seem; made by code, as no composed stream has one."""
    return partial(users_of_an_app, named=True)


def _fresh(evasion: Callable[..., Events]) -> Callable[..., Events]:
    """An evasion of a list that names a new user on every request."""
    return lambda events, rng, **options: evasion(e.fresh_users(events, rng), rng, **options)


_runs = partial(e.topical_runs, embedder=EMBEDDER)
_tour = partial(e.tour, embedder=EMBEDDER)
_embedded = partial(e.embeddings_only, embedder=EMBEDDER)

ATTACKS: dict[str, Attack] = {
    # the lists themselves
    "sweep": _plain(_sweep),
    "one capability": _plain(lambda s: s.one_capability),
    "reasoning": _plain(lambda s: s.reasoning),
    "sorted list": _plain(lambda s: s.in_some_order),
    "office hours": _plain(lambda s: s.office_hours),
    "one template, 10,000 times": _plain(lambda s: s.one_template),
    "60 prompts only": _hidden(e.first_only, count=60),
    # time
    "a person's gaps": _as_person(),
    "a burst of 140 a day": _hidden(e.bursts, size=140),
    "one burst of 190, then another account": _hidden(e.one_burst, size=190),
    "hugging the rate limit": _hidden(e.hugging_the_limit),
    "slow ramp": _hidden(e.slow_ramp),
    # order
    "in the order of the alphabet": _hidden(e.by_first_words),
    "nearest-neighbour tour": _hidden(_tour),
    "tour + a person's gaps": _as_person(_tour),
    "topical runs of 3 to 6": _hidden(_runs),
    "runs + a person's gaps": _as_person(_runs),
    # mixed in
    "40 % generic follow-ups": _hidden(e.follow_ups, share=0.4),
    "15 % generic follow-ups": _hidden(e.follow_ups, share=0.15),
    "5 % asked again": _hidden(e.asked_again, share=0.05),
    "10 % asked again": _hidden(e.asked_again, share=0.1),
    "20 % asked again": _hidden(e.asked_again, share=0.2),
    "20 % of a dozen favourites": _hidden(e.favourites, share=0.2),
    "60 % one-word questions": _hidden(e.one_word_questions, share=0.6),
    "all: runs, 15 % follow-ups, 10 % again, gaps": _as_person(
        _runs, partial(e.follow_ups, share=0.15), partial(e.asked_again, share=0.1)
    ),
    # cover
    "75 % a person's cover": _beside(e.under_cover, "cover", share=0.75),
    "90 % a person's cover": _beside(e.under_cover, "cover", share=0.9),
    "95 % a person's cover": _beside(e.under_cover, "cover", share=0.95),
    "50 % a service's cover": _beside(e.under_cover, "cover", _service, share=0.5),
    "75 % a service's cover": _beside(e.under_cover, "cover", _service, share=0.75),
    "organic weeks before": _beside(e.after_organic, "organic"),
    "a service's weeks before": _beside(e.after_organic, "organic", _service),
    "ramp under fading cover": _beside(e.ramp_under_cover, "cover"),
    # texts
    "paraphrase padding": _hidden(e.paraphrase_padding),
    "quoting the prompt before": _hidden(e.carried_over, share=0.5),
    "quoting a fifth of it": _hidden(e.carried_over, share=0.2),
    "one long prefix in the user's turn": _hidden(e.common_prefix),
    "ten prompts a request": _hidden(e.packed),
    "buried in the middle of a long text": _hidden(e.buried),
    # shapes
    "shared system prompt": _hidden(e.shared_system_prompt),
    "prompt in a tool's result": _hidden(e.outside_user_turn, role="tool"),
    "prompt in the system prompt": _hidden(e.outside_user_turn, role="system"),
    "tool-call traces": _hidden(e.tool_calls),
    "embeddings only": _hidden(_embedded),
    "embeddings with 1 % noise": _hidden(_embedded, noise=0.01),
    "embeddings with 30 % noise": _hidden(_embedded, noise=0.3),
    # users
    "60 fake users, uniform": _hidden(e.uniform_users),
    "400 fake users, Zipf": _hidden(e.zipf_users),
    "a fresh user each request": _hidden(e.fresh_users),
    "fake users in sessions": _hidden(e.users_of_runs),
    "fake users by subject": _hidden(partial(e.users_by_subject, embedder=EMBEDDER)),
    "an app taken over, nobody named": _beside(e.after_organic, "organic", _app),
    "an app taken over, a fresh user each": _beside(_fresh(e.after_organic), "organic", _app),
    "an app's cover of 40 %, fresh users": _beside(_fresh(e.under_cover), "cover", _app, share=0.4),
    "Zipf users, 10 % asked again": _hidden(chained(partial(e.asked_again, share=0.1), e.zipf_users)),
}
"""Every attack by name."""
