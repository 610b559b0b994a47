"""Measure how packages lie: import chains and circles between folders, lines, files at the top.

    python scripts/layout.py                    # tunery.data, and the walk of a row
    python scripts/layout.py tunery.pipeline
    python scripts/layout.py --check            # exit 1 where a bound is passed; part of `make check`

A folder counts as one place; a file at the package's top is a place of its own. Imports for type checkers
only count too: who reads a file must know what they name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import grimp

SRC = Path(__file__).resolve().parent.parent / "src"
BOUNDS = {"tunery.data": {"lines": 10_000, "files": 9, "chain": 7}}
"""Package to its bounds: lines of Python, files at its top without ``__init__``, places in a chain."""


def arrows(package: str) -> dict[str, set[str]]:
    """Return which place of a package imports which others of it."""
    graph = grimp.build_graph("tunery", exclude_type_checking_imports=False)
    depth = package.count(".") + 1

    def place(module: str) -> str:
        parts = module.split(".")
        return ".".join(parts[depth : depth + 1])

    inside = {m for m in graph.modules if m.startswith(f"{package}.")}
    found: dict[str, set[str]] = {place(m): set() for m in inside}
    for module in inside:
        targets = graph.find_modules_directly_imported_by(module) & inside
        found[place(module)] |= {place(t) for t in targets} - {place(module)}
    return found


def circles(found: Mapping[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected places, larger than one (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(found[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                result.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(found):
        if node not in index:
            visit(node)
    return result


def longest_chain(found: Mapping[str, set[str]]) -> list[str]:
    """Return the longest chain of places of which each imports the next; there must be no circle."""
    known: dict[str, list[str]] = {}

    def below(node: str) -> list[str]:
        if node not in known:
            known[node] = [node, *max((below(t) for t in sorted(found[node])), key=len, default=[])]
        return known[node]

    return max((below(n) for n in sorted(found)), key=len, default=[])


def lines(files: Iterable[Path]) -> int:
    """Return how many lines the files have together [count]."""
    return sum(len(f.read_text(encoding="utf-8").splitlines()) for f in files)


def measure(package: str) -> list[str]:
    """Print a package's figures; return what passes its bounds, in words."""
    folder = SRC.joinpath(*package.split("."))
    found = arrows(package)
    loops = circles(found)
    figures = {
        "lines": lines(folder.rglob("*.py")),
        "files": sum(f.name != "__init__.py" for f in folder.glob("*.py")),
    }
    print(f"{package}: {figures['lines']:,} lines, {figures['files']} files at its top, {len(found)} places, "
          f"{sum(map(len, found.values()))} arrows")  # fmt: skip
    wrong = [f"{package}: a circle of {', '.join(loop)}" for loop in loops]
    if not loops:
        chain = longest_chain(found)
        figures["chain"] = len(chain)
        print(f"  longest chain, {len(chain)}: {' → '.join(chain)}")
    for name, bound in BOUNDS.get(package, {}).items():
        if figures.get(name, 0) > bound:
            wrong.append(f"{package}: {figures[name]:,} {name}, at most {bound:,}")
    return wrong


def main() -> int:
    """Measure the packages named, or those that have bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=list(BOUNDS))
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    wrong = [problem for package in given.packages for problem in measure(package)]
    for problem in wrong:
        print(problem, file=sys.stderr)
    return int(given.check and bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
