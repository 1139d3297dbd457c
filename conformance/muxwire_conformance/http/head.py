"""What stands in front of a body: a request or an answer, over HTTP/1.1 or HTTP/2."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

Fields = list[tuple[str, str]]


@dataclass(slots=True, kw_only=True)
class Head:
    """The first line and the fields; names of fields are in lower case.

    A request has ``method`` and ``target``, an answer ``status``. ``at`` is when it was complete.
    """

    method: str = ""
    target: str = ""
    status: int = 0
    reason: str = ""
    fields: Fields = field(default_factory=list)
    at: float = 0.0

    def all(self, name: str) -> list[str]:
        """Return the values of every field of this name, in order."""
        return [value for key, value in self.fields if key == name]

    def get(self, name: str) -> str | None:
        """Return the values of a field joined with commas, None if there is none."""
        values = self.all(name)
        return ", ".join(values) if values else None

    def tokens(self, name: str) -> list[str]:
        """Return the members of a field that is a list, in lower case."""
        return [part.strip().lower() for part in (self.get(name) or "").split(",") if part.strip()]

    def __str__(self) -> str:
        """Describe it in one line."""
        first = f"{self.method} {self.target}" if self.method else f"{self.status} {self.reason}"
        return f"{first.strip()} | {shown(self.fields)}"


def shown(fields: Iterable[tuple[str, str]]) -> str:
    """Return fields for people, long values shortened."""
    return ", ".join(
        f"{name}: {value if len(value) <= 80 else f'({len(value)} octets)'}"
        for name, value in fields
    )
