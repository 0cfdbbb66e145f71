"""The subjects that simulated people talk about, read once from `vocabulary.txt` beside this module."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources
from random import Random


@dataclass(frozen=True, slots=True)
class Domain:
    """One subject and its words.

    Attributes
    ----------
    name
        What the subject is called.
    things
        What is talked about.
    acts
        Verbs that take a thing.
    troubles
        What goes wrong.
    traits
        What is weighed or compared.
    settings
        Where, when or for whom, with the preposition.
    """

    name: str
    things: tuple[str, ...]
    acts: tuple[str, ...]
    troubles: tuple[str, ...]
    traits: tuple[str, ...]
    settings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Focus:
    """What a stretch of conversation is about: a few words of one domain, used again and again."""

    domain: Domain
    thing: str
    other: str
    act: str
    trouble: str
    trait: str
    setting: str

    def words(self) -> dict[str, str]:
        """What the placeholders of a frame such as ``"How do I {act} the {thing}?"`` stand for."""
        return {
            "thing": self.thing,
            "other": self.other,
            "act": self.act,
            "trouble": self.trouble,
            "trait": self.trait,
            "setting": self.setting,
            "domain": self.domain.name,
        }


@cache
def domains() -> tuple[Domain, ...]:
    """Every domain of the vocabulary file, in its order."""
    text = resources.files(__package__).joinpath("vocabulary.txt").read_text(encoding="utf-8")
    blocks = text.split("domain: ")[1:]
    return tuple(_domain(block.strip().splitlines()) for block in blocks)


def _domain(lines: list[str]) -> Domain:
    words = {
        name: tuple(w.strip() for w in rest.split(",")) for name, _, rest in (x.partition(": ") for x in lines[1:])
    }
    return Domain(lines[0].strip(), **words)


def draw_focus(domain: Domain, rng: Random) -> Focus:
    """Choose the words of a new stretch of conversation in `domain`."""
    thing, other = rng.sample(domain.things, 2)
    return Focus(
        domain,
        thing,
        other,
        rng.choice(domain.acts),
        rng.choice(domain.troubles),
        rng.choice(domain.traits),
        rng.choice(domain.settings),
    )


NAMES = (
    *("Ada", "Bruno", "Chen", "Dalia", "Emil", "Farah", "Goran", "Hana", "Ines", "Jonas", "Karima", "Luca", "Mei"),
    *("Noor", "Otto", "Priya", "Quentin", "Rosa", "Sven", "Tariq", "Uma", "Viktor", "Wanda", "Xavier", "Yuki", "Zoe"),
    *("Amina", "Boris", "Clara", "Diego", "Elif", "Felix", "Greta", "Hugo", "Irina", "Jamal", "Kofi", "Lena", "Nils"),
)
PLACES = (
    *("Lisbon", "Nairobi", "Oslo", "Bogota", "Hanoi", "Leeds", "Izmir", "Quebec", "Osaka", "Perth", "Krakow"),
    *("Tunis", "Lima", "Austin", "Ghent", "Pune", "Riga", "Accra", "Sydney", "Naples", "Dublin", "Seoul"),
    *("Zagreb", "Chennai", "Cordoba", "Bergen", "Denver", "Manila", "Basel", "Porto"),
)
