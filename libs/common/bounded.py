"""A table that does not grow without end."""

from collections import OrderedDict
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Bounded(OrderedDict[Key, Value]):
    """At most so many entries: when there are more, the one that was put longest ago goes. Looking does not count.

    A dict by inheritance, since some are looked at with every call.

    Args:
        most: How many entries.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def put(self, key: Key, value: Value) -> None:
        """Sets an entry, which is the newest from now on."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > self.most:
            self.popitem(last=False)
