"""What is known is used while it is fresh, and for longer only while nobody can be asked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tunery.core.errors import NotFoundError, UnavailableError
from tunery.traffic.config import CacheSettings
from tunery.traffic.recent import Recent


class World:
    """A clock, a counter of changes, and a database that answers, fails or hangs."""

    now, changes, asked, value = 0.0, 0, 0, "a"
    error: Exception | None = None
    hangs: threading.Event | None = None

    def look_up(self) -> str:
        self.asked += 1
        if self.hangs is not None:
            self.hangs.wait(20)
        if self.error is not None:
            raise self.error
        return self.value


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def get(world: World) -> Iterator[Callable[[], str]]:
    recent: Recent[str, str] = Recent(
        "names", CacheSettings(fresh_s=1, stale_s=60), lambda: world.changes, lambda: world.now
    )
    yield lambda: recent.get("name", world.look_up)
    recent.close()


def test_it_asks_again_after_a_while_or_a_change_of_its_own(world: World, get: Callable[[], str]) -> None:
    assert [get(), get()] == ["a", "a"]
    assert world.asked == 1
    world.value = "b"
    world.now = 0.9
    assert get() == "a"
    world.changes += 1
    assert get() == "b"
    world.value, world.now = "c", 2.0
    assert get() == "c"
    assert world.asked == 3


@pytest.mark.parametrize("silent", [False, True])
def test_it_goes_on_with_what_it_knows_while_the_database_is_away(
    world: World, get: Callable[[], str], silent: bool
) -> None:
    get()
    if silent:
        world.hangs = threading.Event()
    else:
        world.error = UnavailableError("away")
    world.now, world.value = 30.0, "b"
    assert [get() for _ in range(50)] == ["a"] * 50
    assert world.asked == 2  # once, and then it is taken to be away for a moment
    world.error = None
    if world.hangs is not None:
        world.hangs.set()
    world.now = 32.0
    assert get() == "b"
    world.error, world.now = UnavailableError("away"), 99.0
    with pytest.raises(UnavailableError):  # too old
        get()


def test_what_is_gone_is_not_remembered_nor_is_that_it_is(world: World, get: Callable[[], str]) -> None:
    get()
    world.now, world.error = 5.0, NotFoundError("no such name")
    for _ in range(2):
        with pytest.raises(NotFoundError):
            get()
    world.error = UnavailableError("away")
    with pytest.raises(UnavailableError):
        get()
    world.error = None
    assert get() == "a"
