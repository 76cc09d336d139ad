"""Suggest what an unknown name may have meant."""

from collections.abc import Sequence
from difflib import get_close_matches


def nearest(name: str, known: Sequence[str]) -> str | None:
    """Find the known name that is most like another one, whatever its case; None if none is."""
    by_lower = {other.lower(): other for other in reversed(known)}
    found = get_close_matches(name.lower(), by_lower, n=1)
    return by_lower[found[0]] if found else None


def with_nearest(unknown: Sequence[str], known: Sequence[str]) -> str:
    """Write up to five unknown names, each with the known name that is most like it."""
    found = []
    for name in unknown[:5]:
        like = nearest(name, known)
        found.append(f'{name!r} (did you mean {like!r}?)' if like else repr(name))
    return ', '.join(found) + (f' and {len(unknown) - 5} more' if len(unknown) > 5 else '')
