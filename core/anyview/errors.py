"""What a user may get wrong, and the one sentence they get for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's: one sentence that says what was asked, what was found and what to do.

    The command line prints it without a traceback and leaves with exit code 2.
    """


class MissingDependencyError(UserError):
    """A component needs a package that is not installed; the sentence says what to install."""


def nearest(word: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """The known names that look most like a word, best first.

    >>> nearest("graphmea", ["graphmae", "bgrl", "vicreg"])
    ['graphmae']
    """
    return difflib.get_close_matches(word, list(known), n=most, cutoff=0.6)


def unknown(kind: str, word: str, known: Iterable[str], *, look: str) -> UserError:
    """The error for a name that nobody knows: nearest names if there are any, else where to look.

    >>> print(unknown("recipe", "graphmea", ["graphmae"], look="anyview list recipes"))
    there is no recipe 'graphmea'; did you mean 'graphmae'? (`anyview list recipes` shows all)
    """
    close = nearest(word, known)
    hint = f"; did you mean {' or '.join(map(repr, close))}? (`{look}` shows all)" if close else f"; `{look}` shows all"
    return UserError(f"there is no {kind} {word!r}{hint}")
