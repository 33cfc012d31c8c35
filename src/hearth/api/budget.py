"""Bounds on what all requests together may hold: memory for bodies, uploads in progress."""

from hearth.model.refusals import Busy


class Budget:
    """An amount shared by concurrent requests; what does not fit is refused at once. For one event loop."""

    def __init__(self, amount: int, limit_name: str, what: str) -> None:
        self._free = amount
        self._limit = f"{limit_name}={amount}"
        self._what = what

    def take(self, amount: int) -> None:
        """Raises Busy. Whoever took must `give_back` the same amount."""
        if amount > self._free:
            raise Busy(f"{self._what} at the moment", limit=self._limit, retry_after_s=2)
        self._free -= amount

    def give_back(self, amount: int) -> None:
        """The inverse of `take`."""
        self._free += amount
