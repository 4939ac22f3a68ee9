"""The user's project: how `pipeline.py` is written, and what runs in its child process.

Only `declare` and `slicing` may be imported by anything else than the child: the other modules load user code or
the libraries it needs.
"""
