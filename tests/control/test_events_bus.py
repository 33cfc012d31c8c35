"""The event bus tells each listener of the kinds of resources it asked for."""

from hearth.control.events import EventBus
from hearth.model.events import Occurrence, Published


class Child(Published):
    """A kind below another."""


def test_a_listener_hears_of_the_kinds_it_asked_for_and_those_below() -> None:
    bus = EventBus()
    heard: dict[str, list[object]] = {"all": [], "published": [], "texts": []}
    bus.subscribe(lambda it: heard["all"].append(it.subject))
    bus.subscribe(lambda it: heard["published"].append(it.subject), Published)
    bus.subscribe(lambda it: heard["texts"].append(it.subject), str, bytes)
    subjects: list[object] = [Published({}), Child({}), "text", b"bytes", 1]
    for subject in subjects:
        bus.emit("p", "users.u.create", subject)
    assert heard == {"all": subjects, "published": subjects[:2], "texts": subjects[2:4]}


def test_a_listener_added_later_is_told_of_kinds_known_before() -> None:
    bus = EventBus()
    heard: list[Occurrence] = []
    bus.emit("p", "users.u.create", "text")
    bus.subscribe(heard.append, str)
    bus.emit("p", "users.u.delete", "text")
    assert [it.event for it in heard] == ["users.u.delete"]
