"""How an attacker hides a list: each evasion is a pure function of an account's events and chance.

The first argument is the base extraction stream, in order of time; none is changed, new events are returned. Each says
what it does and what it costs the attacker. Costs are requests for each prompt of the list, tokens, time, or accounts.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import numpy as np
from numpy.typing import NDArray

from detectors.embedding import MAX_CHARACTERS, WORDLLAMA, TextEmbedder
from streams.simulation.prose import ANAPHORS
from tests.redteam.cadence import DAY, HOUR, MINUTE, SECOND
from tests.redteam.language import draw_topic, passage
from tests.redteam.traffic import (
    Event,
    Events,
    added,
    asking,
    at_same_times,
    digest,
    failed,
    in_order,
    span,
    texts,
    timed,
)

# ---- time


def copied_gaps(events: Events, rng: Random, *, organic: Events) -> Events:
    """Send at the gaps of an organic account, in their order, from the first again when they are used up.

    Costs: the list takes as long as the person would take.
    """
    times = [int(event["time"]) for event in organic]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    begin = int(events[0]["time"])
    copied = [begin]
    while len(copied) < len(events):
        copied.append(copied[-1] + gaps[(len(copied) - 1) % len(gaps)])
    return timed(events, copied)


def bursts(events: Events, rng: Random, *, size: int, minutes: float = 10.0) -> Events:
    """Send `size` requests within some minutes once a day, nothing else.

    Costs: a list of 600 takes four to six days.
    """
    begin = int(events[0]["time"])
    times: list[int] = []
    while len(times) < len(events):
        times += sorted(int(begin + rng.uniform(0, minutes * MINUTE)) for _ in range(size))
        begin += DAY + int(rng.uniform(-HOUR, HOUR))
    return timed(events, times)


def one_burst(events: Events, rng: Random, *, size: int, minutes: float = 12.0) -> Events:
    """Send one short burst from the account and never use it again.

    Costs: an account for each `size` prompts.
    """
    return bursts(events[:size], rng, size=size, minutes=minutes)


def first_only(events: Events, rng: Random, *, count: int) -> Events:
    """Send only the first `count` prompts.

    Costs: an account for each `count` prompts.
    """
    return events[:count]


def hugging_the_limit(events: Events, rng: Random, *, gap_seconds: float = 3.0, refused: float = 0.3) -> Events:
    """Send as fast as the rate limit lets through: a share is refused with 429 and sent again after a growing wait.

    Costs: nothing; every client library does it.
    """
    found: Events = []
    free = float(events[0]["time"])
    for event in events:
        t, wait = free, gap_seconds * SECOND
        while rng.random() < refused:
            found.append(failed(added(event, int(t), "refused", len(found)), 429))
            t += wait * rng.uniform(0.8, 1.2)
            wait = min(2 * wait, MINUTE)
        found.append(event | {"time": int(t)})
        free += gap_seconds * SECOND * rng.uniform(0.9, 1.1)
    return in_order(found)


def slow_ramp(events: Events, rng: Random, *, first: float = 3.0, growth: float = 1.25) -> Events:
    """Begin with a few requests a day and send a quarter more each day.

    Costs: three weeks for a list of 600.
    """
    begin, per_day = int(events[0]["time"]), first
    times: list[int] = []
    while len(times) < len(events):
        times += sorted(int(begin + rng.betavariate(2, 2) * 10 * HOUR) for _ in range(round(per_day)))
        begin, per_day = begin + DAY, per_day * growth
    return timed(events, times)


# ---- order


def tour(events: Events, rng: Random, *, embedder: TextEmbedder) -> Events:
    """Send each time the unsent prompt that is nearest to the last one (greedy nearest-neighbour tour).

    Costs: embedding the list once.
    """
    unit = _unit(embedder.embed(texts(events)))
    left = np.ones(len(events), bool)
    at, order = rng.randrange(len(events)), []
    for _ in events:
        order.append(at)
        left[at] = False
        at = int(np.argmax(np.where(left, unit @ unit[at], -2.0)))
    return at_same_times(events, order)


def by_first_words(events: Events, rng: Random) -> Events:
    """Send the list in the order of the alphabet.

    Costs: nothing.
    """
    return at_same_times(events, sorted(range(len(events)), key=lambda i: str(events[i]["prompt"]).lower()))


def topical_runs(events: Events, rng: Random, *, embedder: TextEmbedder, shortest: int = 3, longest: int = 6) -> Events:
    """Send runs of prompts that lie near each other, then jump: a person's threads.

    Costs: embedding the list once.
    """
    unit = _unit(embedder.embed(texts(events)))
    left = np.ones(len(events), bool)
    order: list[int] = []
    while len(order) < len(events):
        start = rng.choice(np.flatnonzero(left).tolist())
        nearest = np.argsort(-np.where(left, unit @ unit[start], -2.0), kind="stable")
        run = nearest[: min(rng.randint(shortest, longest), int(left.sum()))].tolist()
        order += run
        left[run] = False
    return at_same_times(events, order)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), np.float32)


# ---- requests mixed in


def follow_ups(events: Events, rng: Random, *, share: float = 0.4) -> Events:
    """Ask generically after some prompts ("shorter please"), so that `share` of all requests are such.

    Costs: 1 / (1 - share) requests a prompt; the answers are worth a little.
    """
    return _mixed_in(events, rng, share, lambda event: rng.choice(ANAPHORS))


def one_word_questions(events: Events, rng: Random, *, share: float = 0.6) -> Events:
    """Put questions between that are answered in a word, so that `share` of all answers are short: a batch job's.

    Costs: 1 / (1 - share) requests a prompt, with hardly any output tokens.
    """

    def question(event: Event) -> str:
        return f"Answer yes or no: is this true? {passage(draw_topic(rng), 10, rng)}"

    own = {event["id"] for event in events}
    mixed = _mixed_in(events, rng, share, question)
    return [event if event["id"] in own else event | {"output_tokens": rng.randint(1, 4)} for event in mixed]


def _mixed_in(events: Events, rng: Random, share: float, text: Callable[[Event], str]) -> Events:
    """The requests, and between them further ones with a text for the one before, until these are `share` of all."""
    found = list(events)
    for number, count in enumerate(_counts(events, share, rng)):
        for k in range(count):
            more = added(events[number], _between(events, number, rng), "mixed in", k)
            found.append(asking(more, text(events[number])))
    return in_order(found)


def asked_again(events: Events, rng: Random, *, share: float) -> Events:
    """Send earlier prompts again, so that `share` of all requests are repeats.

    Costs: 1 / (1 - share) requests a prompt; a second sample of an answer is worth a little.
    """
    return _repeated(events, rng, share, lambda number: events[rng.randint(0, number)])


def favourites(events: Events, rng: Random, *, share: float, count: int = 12) -> Events:
    """Send a few prompts of the list again and again, as a service's popular questions are asked.

    Costs: 1 / (1 - share) requests a prompt; a repeated answer is worth little.
    """

    def popular(number: int) -> Event:
        return events[min(int(rng.expovariate(0.3)), number, count - 1)]

    return _repeated(events, rng, share, popular)


def _repeated(events: Events, rng: Random, share: float, earlier: Callable[[int], Event]) -> Events:
    """The requests, and between them earlier ones again, until these are `share` of all."""
    found = list(events)
    for number, count in enumerate(_counts(events, share, rng)):
        found += [added(earlier(number), _between(events, number, rng), "again", number, k) for k in range(count)]
    return in_order(found)


def _counts(events: Sequence[Event], share: float, rng: Random) -> list[int]:
    """How many requests to add after each, so that they make up `share` of all."""
    total = round(len(events) * share / (1 - share))
    counts = [total // len(events)] * len(events)
    for i in rng.sample(range(len(events)), total % len(events)):
        counts[i] += 1
    return counts


def _between(events: Sequence[Event], number: int, rng: Random) -> int:
    """A time after the event of that number and before the next."""
    begin = int(events[number]["time"])
    end = int(events[number + 1]["time"]) if number + 1 < len(events) else begin + MINUTE
    return int(rng.uniform(begin, end))


def under_cover(events: Events, rng: Random, *, cover: Events, share: float) -> Events:
    """Hide the list in organic traffic that makes up `share` of all; prompts that do not fit are not sent.

    Each prompt is sent within a quarter of an hour after some request of the cover.
    Costs: 1 / (1 - share) requests a prompt, and an organic life to show.
    """
    account = events[0]["account"]
    hidden = min(len(events), round(len(cover) * (1 - share) / share))
    times = sorted(int(rng.choice(cover)["time"] + rng.uniform(0, 15 * MINUTE)) for _ in range(hidden))
    return in_order([*_own(cover, account), *timed(events, times)])


def after_organic(events: Events, rng: Random, *, organic: Events) -> Events:
    """Behave for some weeks as the organic account did, then work off the list.

    Costs: weeks, or the price of a stolen key with a history.
    """
    shift = int(organic[-1]["time"]) + 10 * MINUTE - int(events[0]["time"])
    return [*_own(organic, events[0]["account"]), *timed(events, [int(event["time"]) + shift for event in events])]


def ramp_under_cover(events: Events, rng: Random, *, cover: Events) -> Events:
    """Hide the list in organic traffic, at first hardly any of it, at last nothing else: the cover fades out.

    Costs: the cover's requests, and the time it spans.
    """
    account, life = events[0]["account"], span(cover)
    begin = int(cover[0]["time"])
    kept = [event for event in cover if rng.random() > (int(event["time"]) - begin) / life]
    times = sorted(int(begin + life * max(rng.random(), rng.random())) for _ in events)
    return in_order([*_own(kept, account), *timed(events, times)])


def _own(events: Sequence[Event], account: str) -> Events:
    """Another account's requests, sent by this one."""
    return [event | {"account": account, "id": digest(account, event["id"])} for event in events]


# ---- texts


def paraphrase_padding(events: Events, rng: Random) -> Events:
    """Say around each prompt in other words what is wanted, at varying length.

    Costs: twice the input tokens.
    """
    found = []
    for event in events:
        words = [word.strip(".,?!").lower() for word in event["prompt"].split() if len(word) > 4] or ["this"]
        before, after = passage(words, rng.randint(5, 40), rng), passage(words, rng.randint(5, 40), rng)
        found.append(asking(event, f"{before} {event['prompt']} {after}"))
    return found


def carried_over(events: Events, rng: Random, *, share: float = 0.5) -> Events:
    """Quote from the prompt before in each prompt ("Earlier I asked about …"), as a person who follows up would.

    `share` is the length of what is quoted over the prompt's own.
    Costs: that share of input tokens more.
    """
    found, before = [], ""
    for event in events:
        words = before.split()
        size = min(len(words), max(4, round(share * len(event["prompt"].split()))))
        at = rng.randint(0, len(words) - size)
        quoted = " ".join(words[at : at + size])
        found.append(asking(event, f"Earlier I asked: {quoted}. Now {event['prompt']}" if quoted else event["prompt"]))
        before = event["prompt"]
    return found


def common_prefix(events: Events, rng: Random, *, words: int = 200) -> Events:
    """Put one long instruction in front of every prompt, in the user's own turn.

    Costs: its input tokens, which caching makes cheap.
    """
    prefix = passage(draw_topic(rng), words, rng)
    return [asking(event, f"{prefix}\n\n{event['prompt']}") for event in events]


def packed(events: Events, rng: Random, *, count: int = 10) -> Events:
    """Ask several prompts of the list in one request.

    Costs: answers are shorter and worse; a tenth of the requests.
    """
    found = []
    for begin in range(0, len(events), count):
        together = events[begin : begin + count]
        asked = "\n\n".join(f"{k}. {event['prompt']}" for k, event in enumerate(together, start=1))
        found.append(asking(together[0], f"Answer each of these.\n\n{asked}"))
    return found


def buried(events: Events, rng: Random) -> Events:
    """Put each prompt into the middle of one long text whose ends are always the same.

    Of long texts only both ends are embedded, so all requests look alike.
    Costs: some 2,000 input tokens a request, most of them cached.
    """
    side = passage(draw_topic(rng), MAX_CHARACTERS // 6, rng)
    while len(side) < MAX_CHARACTERS // 2:
        side += " " + passage(draw_topic(rng), 200, rng)
    return [asking(event, f"{side}\n\nThe question: {event['prompt']}\n\n{side}") for event in events]


# ---- shapes of requests


def shared_system_prompt(events: Events, rng: Random) -> Events:
    """Send each prompt as a user turn under one system prompt.

    Costs: nothing.
    """
    system = passage(draw_topic(rng), 250, rng)
    return [asking(event, [_turn("system", system), _turn("user", event["prompt"])]) for event in events]


def outside_user_turn(events: Events, rng: Random, *, role: str) -> Events:
    """Put the prompt where the user does not speak (a tool's result, the system prompt); the user says "go on".

    Costs: nothing.
    """
    return [asking(event, [_turn(role, event["prompt"]), _turn("user", "Go on.")]) for event in events]


def tool_calls(events: Events, rng: Random, *, fewest: int = 2, most: int = 6) -> Events:
    """Let an agent with tools solve each prompt: every call repeats the user's turn and adds a tool's result.

    Costs: several requests a prompt; the traces are what a distilled agent is trained on, so they are the prey.
    """
    found: Events = []
    for number, event in enumerate(events):
        turns = [_turn("user", event["prompt"])]
        until = int(events[number + 1]["time"]) if number + 1 < len(events) else int(event["time"]) + MINUTE
        found.append(asking(event, turns))
        calls = rng.randint(fewest, most)
        for k in range(calls):
            words = draw_topic(rng)
            turns = [*turns, _turn("assistant", passage(words, 15, rng)), _turn("tool", passage(words, 40, rng))]
            time = int(event["time"]) + (until - int(event["time"])) * (k + 1) // (calls + 1)
            found.append(asking(added(event, time, "call", k), turns))
    return in_order(found)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def embeddings_only(events: Events, rng: Random, *, embedder: TextEmbedder, noise: float = 0.0) -> Events:
    """What a gateway sends that embeds by itself: vectors instead of texts, with noise of this share of their length.

    An attacker cannot choose it; noise is what another batch size or precision of the embedding model brings.
    """
    vectors = embedder.embed(texts(events))
    chance = np.random.default_rng(rng.getrandbits(64))
    sizes = np.linalg.norm(vectors, axis=1, keepdims=True) / np.sqrt(vectors.shape[1])
    noisy = (vectors + noise * sizes * chance.standard_normal(vectors.shape)).astype("<f4")
    return [
        {name: value for name, value in event.items() if name != "prompt"}
        | {"embedding": base64.b64encode(vector.tobytes()).decode(), "embedding_model": WORDLLAMA}
        for event, vector in zip(events, noisy, strict=True)
    ]


# ---- users


def uniform_users(events: Events, rng: Random, *, count: int = 60) -> Events:
    """Name one of some invented users on each request, each as often as the others.

    Costs: nothing.
    """
    names = [digest("user", rng.random()) for _ in range(count)]
    return [event | {"end_user": rng.choice(names)} for event in events]


def zipf_users(events: Events, rng: Random, *, count: int = 400) -> Events:
    """Name invented users as a real service has them: few that come often, many that come once.

    Costs: nothing.
    """
    names = [digest("user", rng.random()) for _ in range(count)]
    return [event | {"end_user": names[int(rng.paretovariate(0.8)) % count]} for event in events]


def fresh_users(events: Events, rng: Random) -> Events:
    """Name a new user on every request.

    Costs: nothing.
    """
    return [event | {"end_user": digest("user", rng.random())} for event in events]


def users_by_subject(events: Events, rng: Random, *, embedder: TextEmbedder, count: int = 24) -> Events:
    """Deal the list out to invented users by subject: each prompt to the one whose first prompt it is most like.

    Costs: embedding the list once.
    """
    unit = _unit(embedder.embed(texts(events)))
    firsts = unit[rng.sample(range(len(events)), min(count, len(events)))]
    names = [digest("user", rng.random()) for _ in firsts]
    return [event | {"end_user": names[k]} for event, k in zip(events, (unit @ firsts.T).argmax(axis=1), strict=True)]


def users_of_runs(events: Events, rng: Random, *, longest: int = 8) -> Events:
    """Name one invented user for some requests in a row, then another: sessions of a service's users.

    Costs: nothing.
    """
    found, left, name = [], 0, ""
    for event in events:
        if left == 0:
            left, name = rng.randint(1, longest), digest("user", rng.random())
        left -= 1
        found.append(event | {"end_user": name})
    return found
