"""What Prefect shows that a run or a task came to: its own types of states, named by how things ended.

A state is for people who look at Prefect's pages and for its automations; nothing of ours decides by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from modelcd.domain.release import Release
from modelcd.domain.story import ending, headline, why
from modelcd.domain.verdict import Finding, Verdict
from modelcd.errors import ModelcdError

LONGEST = 2_000
"""Characters of a reason that stand in a state; the whole of it stands on the run's page and in the journal."""

GOOD = {"promoted": "Promoted", "nothing new": "NothingNew"}
"""How a delivery, a retraining or a promotion ends well, and the name of the state."""

BACK = {"rolled back": "RolledBack"}
"""How a rollback ends well."""

BAD = {"rolled back": "RolledBack", "failed": "NeverReady", "waiting": "WaitsForPerson"}


def of_flow(told: Mapping[str, Any], good: Mapping[str, str] = GOOD) -> State[Any]:
    """Return the state of a run that *told* how it ended; *good* are the endings that were wanted."""
    found, message = str(told["ending"]), _short(str(told["why"]))
    if found in good:
        return Completed(name=good[found], message=message, data=dict(told))
    if found == "stopped":
        return Failed(name=f"StoppedAt{str(told['at']).title().replace(' ', '')}", message=message)
    return Failed(name=BAD.get(found, "Failed"), message=message)


def of_step(result: Any) -> State[Any]:
    """Return the state of a task that came to *result*: a finding, a release, or anything else."""
    if isinstance(result, Finding):
        return _of_finding(result)
    if isinstance(result, Release):
        return _of_release(result)
    return Completed()


def of_error(error: ModelcdError) -> State[Any]:
    """Return the state of what *error* stopped, with what to do."""
    message = _short("\n".join(filter(None, (error.message, error.help))))
    return Failed(name="Refused" if error.exit_code == 1 else "Failed", message=message)


def _of_finding(finding: Finding) -> State[Any]:
    message = _short(finding.reason)
    match finding.verdict:
        case Verdict.PASS:
            return Completed(message=message)
        case Verdict.FAIL:
            return Failed(message=message)
        case Verdict.INCONCLUSIVE:
            return Failed(name="Undecided", message=message)
        case Verdict.ERROR:
            return Failed(name="CouldNotCheck", message=message)


def _of_release(release: Release) -> State[Any]:
    if release.ending is None:
        return Completed(message=headline(release))
    return of_flow({"ending": ending(release), "why": why(release)}, BACK if release.by_rollback else GOOD)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
