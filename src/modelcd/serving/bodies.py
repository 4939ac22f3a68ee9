"""The bytes of a request as its client meant them: unpacked when they were sent compressed, never beyond the limit.

A few kilobytes can unpack to gigabytes, so unpacking goes on piece by piece and ends where the limit does, whatever
the compressed body still holds.
"""

from __future__ import annotations

import zlib

from modelcd.serving.inputs import BadInput

ENCODINGS = ("gzip", "deflate")
_ANY = zlib.MAX_WBITS | 32
"""Reads the headers of gzip and of zlib (which `deflate` means by the standard)."""


def encoding_of(header: str | None) -> str:
    """Return the `Content-Encoding` that *header* names, empty for none; raises `BadInput` (415) for an unknown one."""
    name = (header or "").strip().lower().removeprefix("x-")
    if name in ("", "identity"):
        return ""
    if name not in ENCODINGS:
        raise BadInput(f"Content-Encoding {header!r} is not read here: send {' or '.join(ENCODINGS)}, or neither", 415)
    return name


def too_long(limit: int) -> BadInput:
    """Return the refusal (413) of a body of more than *limit* bytes."""
    return BadInput(f"the body is longer than {limit} bytes: send fewer rows at a time", 413)


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """Return *body* unpacked; raises `BadInput` when it is not what it is said to be (400) or exceeds *limit* (413)."""
    # Some clients send deflate without zlib's header: then the first byte names another method than 8.
    bare = encoding == "deflate" and body[:1] and body[0] & 15 != 8
    parts, size = [], 0
    try:
        while True:
            unpacking = zlib.decompressobj(-zlib.MAX_WBITS if bare else _ANY)
            parts.append(unpacking.decompress(body, limit - size + 1))
            size += len(parts[-1])
            if size > limit:
                raise too_long(limit)
            if not unpacking.eof:
                raise BadInput(f"the body ends in the middle of its {encoding}: send all of it", 400)
            body = unpacking.unused_data  # gzip may hold several parts, one after the other
            if not body:
                return b"".join(parts)
    except zlib.error:
        raise BadInput(f"the body is not {encoding}, as its Content-Encoding says", 400) from None
