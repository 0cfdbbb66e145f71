"""What people, lists, services and jobs write."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from streams.simulation.curriculum import CAPABILITIES
from streams.simulation.prose import ANAPHORS, ASSISTANT, FOLLOW_UPS, OPENINGS, REMARKS, SEARCH, SUPPORT
from tests.redteam.language import draw_topic, field, fill, length, narrowed, passage


class Writer:
    """A person: some topics that come back for weeks, threads of conversation inside them, habits of wording.

    A message mostly keeps words of the thread it belongs to, and a sitting has a usual length of message. Some messages
    are remarks, some generic follow-ups, some an earlier one changed a little, as people do when an answer disappoints.

    Parameters
    ----------
    rng
        Source of every choice.
    topics
        Own topics, drawn when None.
    """

    def __init__(self, rng: Random, topics: Sequence[tuple[str, ...]] | None = None) -> None:
        self._rng = rng
        self._topics = list(topics or (draw_topic(rng) for _ in range(rng.randint(8, 40))))
        self._thread: tuple[str, ...] = ()
        self._sent: list[str] = []
        self._median, self._mood = 14.0 * rng.lognormvariate(0.0, 0.5), 1.0
        self._keeps = rng.uniform(0.1, 0.75)
        self._remarks, self._generic, self._edits = rng.uniform(0, 0.1), rng.uniform(0.01, 0.1), rng.uniform(0, 0.06)
        self._own_remarks = rng.sample(REMARKS, 4)

    def sitting(self, count: int) -> list[str]:
        """Messages of one sitting; the first opens a thread, and now and then another one does."""
        texts = []
        self._mood = self._rng.lognormvariate(0.0, 0.6)
        for i in range(count):
            if i == 0 or self._rng.random() < 0.12:
                topic = self._topics[min(int(self._rng.expovariate(0.25)), len(self._topics) - 1)]
                self._thread = narrowed(topic, self._rng.randint(4, 9), self._rng)
                if self._rng.random() < 0.1:
                    self._topics[self._rng.randrange(len(self._topics))] = draw_topic(self._rng)
                texts.append(self._said(OPENINGS, self._thread))
            else:
                texts.append(self._next())
        self._sent = (self._sent + texts)[-40:]
        return texts

    def _next(self) -> str:
        rng, draw = self._rng, self._rng.random()
        if draw < self._remarks:
            return rng.choice(self._own_remarks)
        draw -= self._remarks
        if draw < self._generic:
            return rng.choice(ANAPHORS)
        draw -= self._generic
        if draw < self._edits and self._sent:
            return edited(rng.choice(self._sent[-6:]), self._thread, rng)
        if rng.random() < self._keeps:
            return self._said(FOLLOW_UPS, self._thread)
        return self._said(FOLLOW_UPS, draw_topic(rng)[:6] + self._thread[:2])

    def _said(self, frames: Sequence[str], words: Sequence[str]) -> str:
        text = fill(self._rng.choice(frames), words, self._rng)
        if self._rng.random() < 0.5:
            text += " " + passage(words, length(self._rng, self._median * self._mood), self._rng, common=0.35)
        return text


def edited(text: str, words: Sequence[str], rng: Random) -> str:
    """`text` with about a sixth of its words replaced."""
    return " ".join(rng.choice(words) if rng.random() < 1 / 6 else word for word in text.split())


def exercises(count: int, rng: Random, capabilities: Sequence[str] = tuple(CAPABILITIES)) -> list[str]:
    """`count` different prompts as models are distilled with: each of any capability, on any topic."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[exercise(draw_topic(rng)[:14], rng, capabilities)] = None
    return list(found)


def exercise(words: Sequence[str], rng: Random, capabilities: Sequence[str] = tuple(CAPABILITIES)) -> str:
    """One prompt on a topic; every third brings a text or some data to work on."""
    text = fill(rng.choice(CAPABILITIES[rng.choice(capabilities)]), words, rng)
    return f"{text}\n\n{passage(words, length(rng, 30), rng)}" if rng.random() < 0.35 else text


def by_topic(count: int, rng: Random) -> list[str]:
    """Exercises in the order of a text book: 8 to 20 of a topic one after the other."""
    found: dict[str, None] = {}
    while len(found) < count:
        topic = draw_topic(rng)
        capability = rng.sample(tuple(CAPABILITIES), 3)
        found.update((exercise(topic[:14], rng, capability), None) for _ in range(rng.randint(8, 20)))
    return list(found)[:count]


def filled_template(count: int, rng: Random) -> list[str]:
    """One template of some sentences with a few words that differ, `count` times."""
    head = passage(draw_topic(rng), 30, rng)
    found: dict[str, None] = {}
    while len(found) < count:
        topic = draw_topic(rng)
        name, kind, way = (rng.choice(topic[:8]) for _ in range(3))
        found[f"{head} Write about {name} as seen by somebody who knows {kind}, with {way} in mind."] = None
    return list(found)


def questions(words: Sequence[str], count: int, rng: Random) -> list[str]:
    """`count` different questions on a subject in one of three manners of asking: what the users of a service send."""
    frames = rng.choice((SUPPORT, SEARCH, ASSISTANT))
    found: dict[str, None] = {}
    while len(found) < count:
        found[fill(rng.choice(frames), narrowed(words, 8, rng), rng)] = None
    return list(found)


def free_question(words: Sequence[str], rng: Random) -> str:
    """A question in a user's own words."""
    own = narrowed(words, 6, rng)
    return fill(rng.choice((*OPENINGS, *SUPPORT)), own, rng) + " " + passage(own, length(rng, 12), rng, common=0.35)


def document(words: Sequence[str], median: float, rng: Random) -> str:
    """A text of its own on a few topics of a subject, about `median` words long."""
    return passage(narrowed(words, 16, rng), length(rng, median, 0.5), rng)


def code_base(files: int, rng: Random) -> list[tuple[str, ...]]:
    """The words of each file of a project: a subject they share, and some of their own."""
    shared = field(rng, 5)
    return [(*narrowed(shared, 10, rng), *draw_topic(rng)[:10]) for _ in range(files)]
