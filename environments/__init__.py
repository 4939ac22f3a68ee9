"""The kinds of places that models are released into, one file each: what `environments.py` of a workspace is made of.

    from modelcd.environments import Laptop

    environments = [Laptop("staging"), Laptop("production")]

A kind has a name, which means nothing but itself, and binds adapters to ports.  What happens in an environment follows
from its place in the list.  A kind of your own is a class with `name` and `bind`; nothing here need be edited for it.
"""

from __future__ import annotations

from modelcd.environments.laptop import Laptop

__all__ = ["Laptop"]
