"""The rows of a project: found, hashed by content, read, checked, prepared, and split by time.

New data is what has new content: names, times and sizes of files prove nothing (they only let a hash be remembered).
Files are hashed again after they were read, so that a version never claims data which changed underneath it.
The holdout is strictly newer than what is learned from; rows of one and the same moment are never torn apart.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd

from modelcd.domain.metrics import known, misfit
from modelcd.domain.telling import counted
from modelcd.domain.vectors import several_targets
from modelcd.domain.words import missing_among
from modelcd.errors import ChildError, ProjectError
from modelcd.project.declare import Dataset, Model, nearest
from modelcd.project.loading import calling
from modelcd.project.rows import with_vectors

FEW_COPIES = 0.01
"""The part of the holdout that may stand in training as well before it is said."""

SUFFIXES = (".parquet", ".csv", ".csv.gz")


@dataclass(frozen=True)
class File:
    """A file of the dataset: its path as the pattern says it, its size in bytes, its content's sha256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """The prepared rows, oldest first: those to learn from, and the newest, kept from it; `raw` is how many came."""

    train: pd.DataFrame
    holdout: pd.DataFrame
    raw: int


# -- files -------------------------------------------------------------------------------------------------------------


def look(project: Path, pattern: str, cache: Path | None = None) -> list[File]:
    """Return the files that *pattern* names in *project*, sorted, hashed; raises `ProjectError` when there are none.

    *cache* is a file in which hashes are remembered, known by place, size and times.
    """
    names = sorted(name for name in glob.glob(pattern, root_dir=project, recursive=True) if (project / name).is_file())
    if not names:
        raise ProjectError(f"no file matches {pattern!r}", help=f"patterns start in {project.name}/")
    odd = [name for name in names if not name.endswith(SUFFIXES)]
    if odd:
        raise ProjectError(f"{odd[0]} is neither parquet nor CSV", help=f"narrow the pattern {pattern!r}")
    remembered = _remembered(cache)
    files = [_hashed(project, name, remembered) for name in names]
    _remember(cache, remembered)
    return files


def digest(files: Sequence[File]) -> str:
    """Return sha256 over the contents of *files* in their order; where they lie does not matter."""
    return "sha256:" + hashlib.sha256("\n".join(file.sha256 for file in files).encode()).hexdigest()


def compared(files: Sequence[File], known: Mapping[str, str]) -> dict[str, list[str]]:
    """Say which *files* are new, changed or unchanged against *known* (path to sha256), and which are gone."""
    now = {file.path: file.sha256 for file in files}
    return {
        "new": [path for path in now if path not in known],
        "changed": [path for path in now if path in known and known[path] != now[path]],
        "unchanged": [path for path in now if known.get(path) == now[path]],
        "gone": sorted(set(known) - set(now)),
    }


def _hashed(project: Path, name: str, remembered: dict[str, str]) -> File:
    path = project / name
    try:
        stat = path.stat()
        key = f"{path.resolve()}|{stat.st_ino}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}"
        if key not in remembered:
            with path.open("rb") as stream:
                remembered[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ProjectError(f"{name} cannot be read: {error.strerror}") from error
    return File(name, stat.st_size, remembered[key])


def _remembered(cache: Path | None) -> dict[str, str]:
    try:
        plain = json.loads(cache.read_text()) if cache else {}
    except (OSError, ValueError):
        return {}
    return dict(plain) if isinstance(plain, dict) else {}


def _remember(cache: Path | None, remembered: Mapping[str, str]) -> None:
    if cache is None:
        return
    cache.parent.mkdir(parents=True, exist_ok=True)
    fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
    fresh.write_text(json.dumps(dict(list(remembered.items())[-10_000:])))
    fresh.replace(cache)


# -- rows --------------------------------------------------------------------------------------------------------------


def read(project: Path, dataset: Dataset, expected: Sequence[str] | None = None) -> tuple[pd.DataFrame, list[File]]:
    """Return the raw rows as they arrived, and the files they came from.

    Raises `ProjectError` for files that do not fit together, `ChildError` when they changed while they were read, or
    since their hashes were *expected*.
    """
    before = look(project, dataset.pattern)
    if expected is not None and [file.sha256 for file in before] != list(expected):
        raise ChildError("the data changed since it was looked at", help="deliver again")
    frames = _with_codes(project, {file.path: _read_file(project, file.path) for file in before})
    if look(project, dataset.pattern) != before:
        raise ChildError("the data changed while it was read", help="deliver again when it has been written")
    shapes = [frozenset(frame.columns) for frame in frames]
    usual = shapes.index(max(shapes, key=shapes.count))
    for file, frame in zip(before, frames, strict=True):
        _fits(before[usual].path, frames[usual], file.path, frame, prepared=dataset.prepare is not None)
    rows = pd.concat(frames, ignore_index=True)
    if rows.empty:
        raise ProjectError(
            f"there are no rows in {dataset.pattern}", help=f"{counted(len(before), 'file')}, none with a row"
        )
    return rows, before


def _read_file(project: Path, name: str) -> pd.DataFrame:
    if not (project / name).stat().st_size:
        raise ProjectError(f"{name} is empty", help="write it again, or take it away")
    try:
        if name.endswith(".parquet"):
            return pd.read_parquet(project / name)
        _refuse_header(project, name)
        frame = pd.read_csv(project / name, low_memory=False)  # else a column may be numbers here, text there
        _refuse_misread(project, name, frame)
        return frame
    except ProjectError:
        raise
    except UnicodeDecodeError as error:
        raise ProjectError(
            f"{name} is not text in UTF-8: byte {error.object[error.start]:#x} cannot be read",
            help=_recoding(project, name),
        ) from error
    except (
        OSError,
        ValueError,
        KeyError,
        csv.Error,
    ) as error:  # pyarrow's errors and pandas' ParserError are ValueErrors
        said = str(error).splitlines()[0].replace(f"{project}/", "")
        kind = "parquet" if name.endswith(".parquet") else "CSV"
        raise ProjectError(f"{name} cannot be read: {said}", help=f"is it a whole file of {kind}?") from error


def _with_codes(project: Path, frames: Mapping[str, pd.DataFrame]) -> list[pd.DataFrame]:
    """Return *frames*, by file, with codes as text: columns that have leading zeros in one CSV, as zip codes do."""
    files = [name for name in frames if not name.endswith(".parquet")]
    if not any(_may_hold_codes(project, name) for name in files):
        return list(frames.values())
    texts = {name: _whole_as_text(project, name, frames[name]) for name in files}
    codes = {c for name, text in texts.items() for c, values in frames[name].assign(**text).items() if is_code(values)}
    return [
        frame.assign(**{column: values for column, values in texts.get(name, {}).items() if column in codes})
        for name, frame in frames.items()
    ]


def _may_hold_codes(project: Path, name: str) -> bool:
    """Say whether a cell below the header of the CSV *name* begins with a zero and a digit.

    To look takes a fifth of the time that reading it again as text does.
    """
    before = ""
    with _opened(project, name) as file:
        while part := file.read(1 << 20):
            if _CODE_BEGINS.search(before + part):
                return True
            before = part[-3:]
    return False


def _whole_as_text(project: Path, name: str, frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the columns of *frame* with whole numbers or nothing in them as they are written in the CSV *name*."""
    kinds = {column: rough_kind(frame[column]) for column in frame}
    whole = [
        column
        for column, kind in kinds.items()
        if kind == "nothing" or (kind == "numbers" and bool((frame[column].dropna() % 1 == 0).all()))
    ]
    return dict(pd.read_csv(project / name, usecols=whole, dtype=str).items()) if whole else {}


def is_code(values: pd.Series) -> bool:
    """Say whether *values* are texts with zeros in front of digits, which a number would lose."""
    if pd.api.types.infer_dtype(values, skipna=True) != "string":
        return False
    return bool(values.str.fullmatch(r"0\d+", na=False).any())


def _opened(project: Path, name: str, encoding: str = "utf-8", errors: str = "strict") -> IO[str]:
    opened = gzip.open if name.endswith(".gz") else open
    return cast(IO[str], opened(project / name, "rt", encoding=encoding, errors=errors, newline=""))


def _recoding(project: Path, name: str) -> str:
    """Say how to write the CSV *name* in UTF-8, which it is not: by a line of Python where its encoding is clear."""
    with _opened(project, name, errors="ignore") as file:
        if not file.read().isascii():
            return "a part of it is UTF-8, so another encoding would garble that: write it again, or as parquet"
    for encoding in ("utf-16", "cp1252"):  # the first refuses what does not begin with its mark
        with suppress(UnicodeError, csv.Error), _opened(project, name, encoding) as file:
            header, first = next(csv.reader(file), []), file.readline()
            file.read()
            how = {"encoding": encoding, **_separated(header, first)}
            return f"is it {encoding}? write it in UTF-8, once: {_rewriting(project, name, how)}"
    return "write it in UTF-8, or as parquet"


def _separated(header: list[str], first: str) -> dict[str, str]:
    """Return how pandas is to read a CSV with another separator, by its *header* and *first* line; empty for commas."""
    if len(header) != 1 or not (mark := next((mark for mark in ";\t|" if mark in header[0]), "")):
        return {}
    comma = any(re.fullmatch(r'\s*"?[+-]?\d+,\d+"?\s*', cell) for cell in first.split(mark))
    return {"sep": mark, **({"decimal": ","} if comma else {})}


def _rewriting(project: Path, name: str, how: Mapping[str, Any]) -> str:
    """Return the line of Python that reads the CSV *name* as *how* says, and writes it as we read it."""
    path = str(project / name)
    with suppress(ValueError):  # what cannot be read so either is found when the line is run
        texts = pd.read_csv(path, dtype=str, **how)
        codes = [column for column in texts if is_code(texts[column])]
        how = {**how, **({"dtype": dict.fromkeys(codes, "str")} if codes else {})}
    options = "".join(f", {option}={value!r}" for option, value in how.items())
    return f"pandas.read_csv({path!r}{options}).to_csv({path!r}, index=False)"


def _refuse_header(project: Path, name: str) -> None:
    """Raise `ProjectError` for a CSV with another separator, or a column twice: pandas would rename the second."""
    with _opened(project, name) as file:
        header = next(csv.reader(file), [])
        first = file.readline()
    if how := _separated(header, first):
        raise ProjectError(
            f"the columns of {name} are separated by {how['sep']!r}",
            help=f"write it with commas, once: {_rewriting(project, name, how)}",
        )
    twins = [column for column in header if header.count(column) > 1]
    if twins:
        raise ProjectError(f"{name} has the column {twins[0]!r} {header.count(twins[0])} times", help="name each once")


def _refuse_misread(project: Path, name: str, frame: pd.DataFrame) -> None:
    """Raise `ProjectError` for a CSV with lines of another length than its header."""
    columns = list(frame.columns)
    # Of a longer first line pandas takes the first value for the row's name, and fills up a shorter one.
    short = len(columns) > 1 and bool(frame[columns[-1]].isna().any())
    with suppress(csv.Error), _opened(project, name) as file:  # a cell that is too long for it was read all the same
        lines = csv.reader(file)
        next(lines)
        for line in filter(None, lines):
            if len(line) != len(columns):
                raise ProjectError(
                    f"{name}, line {lines.line_num} has {counted(len(line), 'value')} under a header of {len(columns)}",
                    help="write as many commas in every line; what is missing is left empty",
                )
            if not short:
                return


def _fits(usual: str, one: pd.DataFrame, odd: str, other: pd.DataFrame, *, prepared: bool) -> None:
    """Raise `ProjectError` unless the frames have one shape; `prepare` may mend words for gaps among numbers."""
    lacking, more = [c for c in one if c not in other], [c for c in other if c not in one]
    if lacking or more:
        what = (
            f"has no column {lacking[0]!r}, as {usual} has" if lacking else f"has a column {more[0]!r}, {usual} has not"
        )
        raise ProjectError(f"{odd} {what}", help="all files have the same columns")
    for column in one:
        was, now = rough_kind(one[column]), rough_kind(other[column])
        gaps = prepared and {was, now} == {"numbers", "text"} and is_numbers(one[column]) and is_numbers(other[column])
        if was != now and "nothing" not in (was, now) and not gaps:
            raise ProjectError(
                f"column {column!r} holds {was} in {usual}, {now} in {odd}",
                help="write it the same way in all files",
            )


def is_numbers(values: pd.Series) -> bool:
    """Say whether *values* are finite numbers, beside words that stand where there is none."""
    present = values.dropna()
    if is_code(present):
        return False
    try:
        rest = present[~present.isin(missing_among(present.unique()))]
        return len(rest) > 0 and bool(np.isfinite(rest.astype(float)).all())
    except (ValueError, TypeError):
        return False


def rough_kind(values: pd.Series) -> str:
    """Say in a word or two what a column holds."""
    if values.isna().all():
        return "nothing"
    if pd.api.types.is_bool_dtype(values):
        return "truth values"
    if pd.api.types.is_numeric_dtype(values):
        return "numbers"
    return "times" if pd.api.types.is_datetime64_any_dtype(values) else "text"


# -- preparing ---------------------------------------------------------------------------------------------------------


def prepared(project: Path, dataset: Dataset, raw: pd.DataFrame) -> Split:
    """Apply the project's `prepare`, check the rows, and split them by time; raises `ProjectError`, `ChildError`."""
    count = len(raw)
    rows = raw
    if dataset.prepare is not None:
        with calling("prepare", project):
            rows = dataset.prepare(raw)
        if not isinstance(rows, pd.DataFrame):
            raise ProjectError(f"prepare returned a {type(rows).__name__}", help="it must return a DataFrame")
        if rows.empty:
            raise ProjectError(f"prepare left none of {counted(count, 'row')}")
    rows = _checked(dataset, rows)
    train, holdout = _split(dataset, rows)
    for name, part in (("training", train), ("holdout", holdout)):
        for target in dataset.targets:
            _needs_variety(target, name, part)
    return Split(train, holdout, count)


def _checked(dataset: Dataset, rows: pd.DataFrame) -> pd.DataFrame:
    names = [str(column) for column in rows.columns]
    doubled = next((name for name in names if names.count(name) > 1), None)
    if doubled is not None:
        raise ProjectError(f"two columns are named {doubled!r}")
    rows = rows.set_axis(names, axis="columns")
    roles = [*(("target", target) for target in dataset.targets), ("time", dataset.time), ("key", dataset.key)]
    for role, column in roles:
        if column is not None and column not in names:
            raise ProjectError(f"the data has no column {column!r} ({role})", help=nearest(column, names))
    for target in dataset.targets:
        _usable_target(dataset, target, rows)
    rows = with_vectors(rows)
    if dataset.key is not None and rows[dataset.key].duplicated().any():
        twice = rows[dataset.key][rows[dataset.key].duplicated()].iloc[0]
        raise ProjectError(f"{dataset.key} {twice!r} is there twice", help="do two files hold the same rows?")
    if dataset.time is not None:
        times = _times(dataset.time, rows[dataset.time])
        rows = rows.assign(**{dataset.time: times}).sort_values(dataset.time, kind="stable")
    return rows.reset_index(drop=True)


def _usable_target(dataset: Dataset, target: str, rows: pd.DataFrame) -> None:
    missing = int(rows[target].isna().sum())
    if missing:
        raise ProjectError(
            f"{missing:,} of {len(rows):,} rows have no {target!r}",
            help="drop them in prepare, or find their truth",
        )
    if isinstance(rows[target].iloc[0], list | tuple | np.ndarray):
        raise ProjectError(
            f"the target {target!r} holds lists",
            help='make a column of each number in prepare, and name them: target=("low", "high")',
        )
    if len(dataset.targets) > 1 and not pd.api.types.is_numeric_dtype(rows[target]):
        raise ProjectError(
            f"the target {target!r} holds no numbers", help="of several targets, each is a column of numbers"
        )


def _times(name: str, values: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(values):
        raise ProjectError(
            f"time column {name!r} holds numbers, such as {values.iloc[0]:g}",
            help="turn it into times in prepare: pd.to_datetime(…, unit=…)",
        )
    try:
        times = times_of(values)
    except (ValueError, TypeError) as error:
        raise ProjectError(
            f"time column {name!r} cannot be read as times: {str(error).splitlines()[0]}",
            help="turn it into times in prepare: pd.to_datetime(…, format=…)",
        ) from error
    if times.isna().any():
        raise ProjectError(f"{int(times.isna().sum()):,} rows have no {name!r}", help="drop them in prepare")
    return times


_CODE_BEGINS = re.compile(r'[,\r\n]"?0\d')
_OFFSET = r":\d\d(?:[.,]\d+)?\s*(Z|[+-]\d\d(?::?\d\d)?)\s*$"
_DAY_OR_MONTH = r"^\s*(\d{1,2})([-/.])(\d{1,2})\2\d{4}\b"


def times_of(values: pd.Series) -> pd.Series:
    """Return *values* as times, in UTC where their offsets differ, as they do beside a summer time.

    Whether the day or the month comes first is what the whole column allows.  Raises `ValueError` for what is no time,
    or can be read in two ways.
    """
    texts = values.dropna()
    if len(texts) == 0 or not texts.map(lambda value: isinstance(value, str)).all():
        return pd.to_datetime(values)
    offsets = texts.str.extract(_OFFSET)[0]
    if offsets.nunique() > 1:
        if offsets.isna().any():
            raise ValueError("some have an offset from UTC, others have none")
        return pd.to_datetime(values, utc=True)
    parts = texts.str.extract(_DAY_OR_MONTH)[[0, 2]]
    if parts.isna().any(axis=None):
        return pd.to_datetime(values)
    first, second = (parts[part].astype(int) for part in parts)
    if first.max() > 12 and second.max() > 12:
        raise ValueError("in some the day comes first, in others the month")
    if first.max() <= 12 and second.max() <= 12 and (first != second).any():
        raise ValueError(f"{texts[first != second].iloc[0]} can be read in two ways")
    return pd.to_datetime(values, format="mixed", dayfirst=bool(first.max() > 12))


def _split(dataset: Dataset, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    seconds = dataset.holdout_seconds
    if seconds is None:
        cut = min(len(rows) - 1, round(len(rows) * (1 - float(dataset.holdout))))
        first = rows[dataset.time].iloc[cut] if dataset.time else cut
    else:
        first = rows[dataset.time].iloc[-1] - pd.Timedelta(seconds=seconds)
    newer = rows[dataset.time] >= first if dataset.time else pd.Series(rows.index >= first)
    if newer.all():
        raise ProjectError(
            f"holdout={dataset.holdout!r} leaves nothing to learn from: {counted(len(rows), 'row')}, none older",
            help="keep less, or bring more data",
        )
    return rows[~newer].reset_index(drop=True), rows[newer].reset_index(drop=True)


def copied(dataset: Dataset, train: pd.DataFrame, holdout: pd.DataFrame) -> str:
    """Say how many rows of *holdout* are copies of rows of *train*, whatever their key and time; empty for few.

    Where no column has many values, rows are alike by chance, and nothing is said.
    """
    both = pd.concat([train, holdout], ignore_index=True).drop(columns=[n for n in (dataset.key, dataset.time) if n])
    both = both.assign(**{name: both[name].map(repr) for name in both if both[name].dtype == object})
    if not any(both[name].nunique() > len(both) / 3 for name in both):
        return ""
    rows = pd.util.hash_pandas_object(both, index=False)
    count = int(rows.iloc[len(train) :].isin(rows.iloc[: len(train)]).sum())
    if count <= FEW_COPIES * len(holdout):
        return ""
    return f"{count:,} of {counted(len(holdout), 'holdout row')} stand in training as well, and flatter the gates"


def _needs_variety(target: str, name: str, rows: pd.DataFrame) -> None:
    values = rows[target].unique()
    if len(values) < 2:
        raise ProjectError(
            f"all {len(rows):,} {name} rows have {target} = {values[0]!s}",
            help="bring data with both, or split otherwise",
        )


def gates_fit(model: Model, split: Split) -> None:
    """Raise `ProjectError` for a gate whose metric cannot be computed of the target: training would be in vain."""
    both = pd.concat([split.train, split.holdout])
    for gate in model.gates:
        name = known(gate.metric) if gate.function is None else None
        for target in model.data.targets if name else ():
            truth = both[target].to_numpy()
            if len(model.data.targets) > 1:
                wrong = several_targets(str(name), len(model.data.targets))
            else:
                wrong = misfit(str(name), truth, target, chances=model.method == "predict_proba")
            if wrong:
                what, _, advice = wrong.partition("; ")
                raise ProjectError(f"gate {gate.metric!r} does not fit the target {target!r}: {what}", help=advice)


def described(dataset: Dataset, split: Split) -> dict[str, Any]:
    """Return what is worth knowing of *split* as JSON values."""
    targets = list(dataset.targets)
    both = pd.concat([split.train[targets], split.holdout[targets]])
    plain: dict[str, Any] = {
        "target": dataset.target,
        "targets": targets,
        "key": dataset.key,
        "raw_rows": split.raw,
        "dropped": split.raw - len(both),
        "rows": len(both),
        "train_rows": len(split.train),
        "holdout_rows": len(split.holdout),
        "columns": list(split.train.columns),
        "balance": {},
    }
    if len(targets) == 1 and both[targets[0]].nunique() <= 20:
        shares = both[targets[0]].value_counts(normalize=True)
        plain["balance"] = {str(value): round(float(share), 6) for value, share in shares.items()}
    if dataset.time is not None:
        times = pd.concat([split.train[dataset.time], split.holdout[dataset.time]])
        plain |= {
            "from": times.iloc[0].isoformat(),
            "until": times.iloc[-1].isoformat(),
            "holdout_from": split.holdout[dataset.time].iloc[0].isoformat(),
            "months": int((times.dt.year * 12 + times.dt.month).nunique()),
        }
    return plain


def plain_files(files: Sequence[File]) -> list[dict[str, Any]]:
    """Return *files* as JSON values."""
    return [asdict(file) for file in files]
