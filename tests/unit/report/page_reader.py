"""Reads a report as a browser would, strictly: tags must nest, ids must be unique."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "br", "link", "img", "hr", "input", "wbr"}
_APART = {"td", "th", "dt", "dd", "li", "p", "div", "option"}
"""Elements that a browser sets apart from what follows them."""


@dataclass
class Element:
    """One element with its text and its descendants' text."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        """Return the descendants of a tag whose attributes are as given (``class_`` for class)."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        found = []
        for child in self.children:
            if child.tag == tag and all(child.attributes.get(k) == v for k, v in wanted.items()):
                found.append(child)
            found += child.all(tag, **attributes)
        return found

    def one(self, tag: str, **attributes: str) -> Element:
        """Return the only such descendant."""
        (found,) = self.all(tag, **attributes)
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("root", {})
        self.open = [self.root]
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute: {names}"
        element = Element(tag, dict(attrs))
        self.tags.append(tag)
        self.open[-1].children.append(element)
        if tag not in _VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()
        if tag in _APART:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


@dataclass(frozen=True)
class Page:
    """A page that was read."""

    root: Element
    tags: tuple[str, ...]
    """Every start tag, in order."""

    def section(self, id: str) -> Element:
        """Return the section of an id."""
        return self.root.one("section", id=id)

    def elements(self) -> list[Element]:
        """Return every element, in order."""
        found, waiting = [], [self.root]
        while waiting:
            element = waiting.pop(0)
            found.append(element)
            waiting = element.children + waiting
        return found


def read_page(html: str) -> Page:
    """Read a page; fails when its tags do not nest."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == [reader.root], f"never closed: {[e.tag for e in reader.open[1:]]}"
    return Page(reader.root, tuple(reader.tags))


def words(text: str) -> str:
    """Return text with runs of white space, no-break spaces included, as single spaces."""
    return " ".join(text.split())
