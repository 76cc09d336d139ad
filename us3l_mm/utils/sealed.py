"""Records of hooks in checkpoints, which tell whether they are as they were written."""

import hashlib
import json
from typing import Any


def seal(value: Any) -> str:
    """Write what JSON can hold as a text that :func:`unseal` checks."""
    text = json.dumps(value)
    return f'{_digest(text)} {text}'


def unseal(sealed: Any, name: str) -> Any:
    """Read a text of :func:`seal`.

    Args:
        sealed (Any): What should be such a text.
        name (str): What errors call it.

    Raises:
        ValueError: If it is none, or something in it has changed.
    """
    digest, _, text = sealed.partition(' ') if isinstance(sealed, str) else ('', '', '')
    if digest != _digest(text):
        raise ValueError(f'{name} is not as it was written, got {sealed!r:.60}')
    return json.loads(text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
