"""The child process of a project: `python -m modelcd.project.child COMMAND ARGUMENTS RESULT`.

User code runs here and nowhere else.  What it prints, raises, allocates or kills concerns this process only; what is
handed back is one JSON file, written at the very end, so that its absence says that the code did not get there.
Standard input is a lifeline: when the parent is gone, it ends, and so does this process with its whole group, once it
has removed the private folder of those two files, which nobody else will.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelcd.errors import ChildError, ModelcdError, failure


def main(argv: list[str]) -> None:
    """Run one command; the answer is in the result file, the exit code says nothing."""
    command, arguments_file, result_file = argv
    _hold_lifeline((arguments_file, result_file))
    request = json.loads(Path(arguments_file).read_text(encoding="utf-8"))
    _limit_memory(int(request["memory"]))
    answer = _answer(command, request["arguments"], int(request["memory"]))
    fresh = Path(result_file + ".new")
    fresh.write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")
    fresh.replace(result_file)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that user code left behind must not keep the result waiting


def _answer(command: str, arguments: Mapping[str, Any], memory: int) -> dict[str, Any]:
    project = Path.cwd().resolve()
    try:
        if command == "judge":
            from modelcd.project.judging import judge

            judge(project, int(arguments["read"]), int(arguments["write"]))
            return {"value": {}}
        from modelcd.project.commands import COMMANDS

        return {"value": _jsonable(COMMANDS[command](project, arguments))}
    except ModelcdError as error:
        return failure(error)
    except MemoryError:
        needed = f"more than {memory:,} MB (budget)" if memory else "more memory than there is"
        return failure(
            ChildError(f"{command} needed {needed}", help="raise Budgets(memory=…), or work on less at once")
        )
    except BaseException as error:
        from modelcd.project.loading import calling

        try:
            with calling(command, project):
                raise
        except ChildError as translated:
            return failure(translated)
        except BaseException:
            return failure(ChildError(f"{command} raised {type(error).__name__}"))


def _jsonable(value: Any) -> Any:
    """Return *value* with numpy's scalars, times and NaN made plain: libraries hand these back in evidence."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if hasattr(value, "item"):
        return _jsonable(value.item())
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _limit_memory(megabytes: int) -> None:
    if megabytes > 0:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))


def _hold_lifeline(files: Sequence[str]) -> None:
    lifeline = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def watch() -> None:
        os.read(lifeline, 1)
        for file in map(Path, files):
            with suppress(OSError):
                file.unlink(missing_ok=True)
                file.parent.rmdir()  # only once it is empty
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()


if __name__ == "__main__":
    main(sys.argv[1:])
