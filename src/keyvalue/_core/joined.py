"""Joins two names into one, and no two pairs into the same.

The joined name is `<first><separator><second>`, which is how py-key-value-aio joins names, and is read back by splitting it at the first
separator. Where that would give another pair back (the first name holds the separator, or runs into it), both names are escaped: with
`_` for the first character of the separator, `~` is written `~0`, `_` is written `~1`, and `~2` stands between the two. Such a name
holds no separator, so it differs from all others. (For a separator that starts with `~`, `^` takes its place; for one that
starts with a digit, letters take the place of the digits.)
"""

from __future__ import annotations

__all__ = ["Joiner"]


class Joiner:
    """Joins two names, and splits them.

    Args:
        separator: What stands between them; not empty.
        escapes: Whether what would be mixed up is escaped. If not, all names are joined plainly, as py-key-value-aio does; several pairs
            may make the same one, which splits into one of them.

    Raises:
        ValueError: The separator is empty.
    """

    def __init__(self, separator: str = "__", *, escapes: bool = True) -> None:
        if not separator:
            raise ValueError("The separator must not be empty")
        self.separator = separator
        self._escapes_any = escapes
        first = separator[0]
        mark = "^" if first == "~" else "~"
        zero, one, two = "abc" if first in "012" else "012"
        self._escapes = (mark, mark + zero), (first, mark + one)
        self._between = mark + two

    def start(self, first: str) -> str:
        """Return the prefix of all joined names of a first name (which may be empty), and of no other names."""
        plain = first + self.separator
        is_clear = not self._escapes_any or plain.find(self.separator) == len(first)
        return plain if is_clear else self._escaped(first) + self._between

    def join(self, first: str, second: str) -> str:
        """Return the joined name."""
        start = self.start(first)
        return start + second if start.endswith(self.separator) else start + self._escaped(second)

    def split(self, joined: str) -> tuple[str, str] | None:
        """Return the two names of a joined one, or None if it is not one of two names that are not empty."""
        first, separator, second = joined.partition(self.separator)
        if not separator:
            first, _, second = (self._unescaped(part) for part in joined.partition(self._between))
        return (first, second) if first and second and self.join(first, second) == joined else None

    def second(self, first: str, joined: str) -> str | None:
        """Return the second name of a joined one, or None if its first name is another one."""
        start = self.start(first)
        if not joined.startswith(start):
            return None
        second = joined[len(start) :]
        second = second if start.endswith(self.separator) else self._unescaped(second)
        return second if second and self.join(first, second) == joined else None

    def _escaped(self, name: str) -> str:
        for plain, escaped in self._escapes:
            name = name.replace(plain, escaped)
        return name

    def _unescaped(self, name: str) -> str:
        for plain, escaped in reversed(self._escapes):
            name = name.replace(escaped, plain)
        return name
