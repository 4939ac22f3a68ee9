"""Words that stand for yes and no in the larger languages, and those that stand where a value is missing.

The trade-off: a word is here only if it is meant the same way wherever it is used.  Single letters say something in
pairs only, since an F beside an M is no "false".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

_YES = (
    "yes true positive pos + ja wahr positiv oui vrai positif positive sí si verdadero positivo sim verdadeiro vero"
    " waar juist positief sann igen igaz tak prawda ano áno pravda da adevărat evet doğru kyllä tosi có ya benar"
    " да так истина верно положительный ναι نعم صحيح כן हाँ हां はい 是 예 네 ใช่"
)
POSITIVE = frozenset(_YES.split())
"""Yes, true and positive."""

_NO = (
    "no false negative neg - nein falsch negativ non faux négatif négative falso negativo não nao nee onwaar onjuist"
    " negatief nej falskt falsk nem hamis nie fałsz ne nepravda nu fals hayır yanlış ei epätosi không tidak salah"
    " нет ні ложь неверно отрицательный όχι لا خطأ לא नहीं いいえ 否 아니오 아니요 ไม่"
)
NEGATIVE = frozenset(_NO.split())
"""No, false and negative."""

LETTERS = (("y", "n"), ("j", "n"), ("o", "n"), ("s", "n"), ("d", "n"), ("t", "f"), ("v", "f"), ("w", "f"))
"""A letter for yes, and the one for no that it stands beside."""

MISSING = frozenset(
    ("", "-", "--", "?", ".", "n/a", "na", "#n/a", "null", "none", "nan", "nil", "k.a.", "n.a.", "–", "—")
)
"""What people write where there is no value."""


def affirmative(values: Sequence[Any]) -> Any:
    """Return which of two *values* is meant as true; None where they do not say."""
    if set(values) == {-1, 1}:
        return max(values)
    if not all(isinstance(value, str) for value in values):
        return None
    for one, other in (values, values[::-1]):
        if (_plain(one), _plain(other)) in LETTERS:
            return one
        if truth(one) != truth(other) and (truth(one) or truth(other) is False):
            return one
    return None


def truth(word: str) -> bool | None:
    """Return whether *word* means true or false; None where it says neither, or both."""
    plain = _plain(word)
    return True if plain in POSITIVE else False if plain in NEGATIVE else None


def is_missing(value: Any) -> bool:
    """Say whether *value* is a word that people write where there is none."""
    return isinstance(value, str) and _plain(value) in MISSING


def missing_among(values: Iterable[Any]) -> list[str]:
    """Return those of *values* that are written where there is none, sorted; none beside a +, whose opposite is -."""
    found = {value for value in values if isinstance(value, str)}
    return [] if "+" in found else sorted(filter(is_missing, found))


def _plain(word: str) -> str:
    return unicodedata.normalize("NFC", word.strip()).lower()
