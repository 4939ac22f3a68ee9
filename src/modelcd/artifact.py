"""A version on disk: one folder that the child of a project writes, the registry keeps and the server runs.

::

    manifest.json       what is in the folder (see `Manifest`)
    model.joblib        the fitted object; or the file or folder that `artifact=` named, under its own name
    code/               the project's files that the model needs to be loaded, at their paths in the project

Its identity is `digest_of(folder)`.  What Python leaves behind when it imports from `code/` does not count.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from modelcd.errors import ConfigurationError

FORMAT = 2
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Column:
    """An input of the model: `kind` is double, long, boolean, string, datetime or vector; a nullable one takes null.

    A vector is a list of `length` numbers, none of which is null.
    """

    name: str
    kind: str
    nullable: bool = True
    length: int = 0


@dataclass(frozen=True)
class Output:
    """What the score of a row is: `kind` is double, long, boolean, string or vector, a list of `length` numbers.

    `names` say what each number of a vector is, a class as the truth has it or a target; empty when nobody knows.
    """

    kind: str
    length: int = 0
    names: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What a server must know to run the folder.

    `flavor` is `object` (a fitted scikit-learn-style object in `file`, by joblib) or `pyfunc` (an MLflow model folder
    in `file`).  `method` is what gives the scores: `predict_proba` (of two classes the chance of the second, of more
    the chances of all) or `predict`; `output` is what they are.  `warmup` holds a few real rows, sent through the model
    before it is ready.  `toolchain` maps `python` and each distribution the model was built with to its version.
    """

    model: str
    flavor: str
    file: str
    method: str
    inputs: tuple[Column, ...]
    warmup: tuple[Mapping[str, Any], ...] = ()
    toolchain: Mapping[str, str] = field(default_factory=dict)
    output: Output = Output("double")
    format: int = FORMAT


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write *manifest* into *folder*."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of *folder*; raises `ConfigurationError` when it is no artifact that this modelcd can run."""
    try:
        plain = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            raise ConfigurationError(
                f"{folder} has artifact format {plain['format']}, this modelcd reads format {FORMAT}",
                help="use the modelcd that built it, or build the version anew",
            )
        plain["inputs"] = tuple(Column(**column) for column in plain["inputs"])
        plain["output"] = Output(**{**plain["output"], "names": tuple(plain["output"]["names"])})
        plain["warmup"] = tuple(plain["warmup"])
        return Manifest(**plain)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{folder} is not a modelcd artifact: {error}") from error


def toolchain_changes(manifest: Manifest) -> list[str]:
    """Say what of the version's toolchain is different in this Python: "scikit-learn 1.9.1, here 1.8.0", …"""
    changes = []
    for name, wanted in manifest.toolchain.items():
        here = _version_here(name)
        if here != wanted:
            changes.append(f"{name} {wanted}, here {here or 'not installed'}")
    return changes


def _version_here(name: str) -> str:
    if name == "python":
        return ".".join(map(str, sys.version_info[:3]))
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def digest_of(folder: Path) -> str:
    """Return sha256 over the paths and contents of all files in *folder*, bytecode caches left out."""
    total = hashlib.sha256()
    for path in _files(folder):
        with path.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return "sha256:" + total.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    return iter(sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts))


if __name__ == "__main__":  # asked by another Python: what is different in this one?
    print(json.dumps(toolchain_changes(read_manifest(Path(sys.argv[1])))))
