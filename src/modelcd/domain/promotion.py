"""The order of a promotion: which environment a version goes through before which.

An environment's name is a name.  What happens in it follows from its place: the first takes a version that passed its
gates, at once, and it is accepted there; each later one takes what the one before has, by the ladder of its policy.
Where there is only one, a version is accepted before it gets any traffic, and goes by the ladder then.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

RESERVED = ("builds", "gates", "notices", "schedules", "workspaces")
"""What no environment can be called: the journal and the runtime keep other things under these names."""


def before(names: Sequence[str], name: str) -> str:
    """Return the environment that *name* follows; empty for the first.

    Examples:
        >>> before(("staging", "production"), "production")
        'staging'
    """
    return next((earlier for earlier, later in pairwise(names) if later == name), "")


def by_the_ladder(names: Sequence[str], name: str) -> bool:
    """Say whether a version comes into *name* step by step: everywhere but where it is accepted first.

    Examples:
        >>> by_the_ladder(("staging", "production"), "staging"), by_the_ladder(("production",), "production")
        (False, True)
    """
    return len(names) == 1 or name != names[0]


def takes(names: Sequence[str], name: str) -> str:
    """Say what *name* lets in.

    Examples:
        >>> takes(("dev", "staging", "production"), "staging"), takes(("dev", "staging", "production"), "production")
        ('what was accepted in dev', 'what got through staging')
    """
    earlier = before(names, name)
    if not earlier:
        return "what passed its gates" + ("" if len(names) > 1 else " and was accepted")
    return f"what was accepted in {earlier}" if earlier == names[0] else f"what got through {earlier}"
