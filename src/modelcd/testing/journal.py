"""What every journal must do: subclass `JournalContract`, give the fixture `journal`, add nothing.

One that other processes reach is held to `JournalAcrossProcesses`, too: the fixture `elsewhere` is Python that makes
the same `journal` in another process.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psutil
import pytest

from modelcd.domain.records import CHECKPOINT, Entry, Head, broken
from modelcd.errors import Busy, Conflict, JournalError, UsageError
from modelcd.ports import Journal

DEADLINE = 150.0
"""Seconds that another process may take: it starts Python and may wait for others, on a machine that is busy."""

STREAM = "production/team/flights"


def entry(kind: str = "step", **body: object) -> Entry:
    """An entry to append."""
    return Entry(kind=kind, at="2026-01-01T00:00:00+00:00", actor="ada", release="r1", body=body)


class JournalContract:
    """Append-only, all or none, compared before it is written, one stream not touching another."""

    def test_an_unknown_stream_is_empty(self, journal: Journal) -> None:
        assert journal.read(STREAM) == []

    def test_a_journal_without_records_has_no_streams(self, journal: Journal) -> None:
        assert journal.heads() == {}

    def test_what_was_appended_is_read_back(self, journal: Journal) -> None:
        written = journal.append(STREAM, 0, [entry(share=5, why="naïve – ☂", deep={"a": [1, None, 2.5]})])

        assert journal.read(STREAM) == written

    def test_an_entry_is_kept_as_it_was_given(self, journal: Journal) -> None:
        given = entry("promoted", evidence=[1, 2])

        journal.append(STREAM, 0, [given])

        assert [record.entry for record in journal.read(STREAM)] == [given]

    def test_the_writer_gets_what_a_reader_gets_for_values_that_json_changes(self, journal: Journal) -> None:
        written = journal.append(STREAM, 0, [replace(entry(), body={"pair": (1, 2)})])

        assert journal.read(STREAM) == written

    def test_records_are_numbered_from_one(self, journal: Journal) -> None:
        journal.append(STREAM, 0, [entry(), entry()])
        journal.append(STREAM, 2, [entry()])

        assert [record.seq for record in journal.read(STREAM)] == [1, 2, 3]

    def test_only_records_after_a_number_are_read(self, journal: Journal) -> None:
        journal.append(STREAM, 0, [entry(n=1), entry(n=2), entry(n=3)])

        assert [record.entry.body["n"] for record in journal.read(STREAM, after=1)] == [2, 3]

    def test_nothing_is_read_after_the_newest(self, journal: Journal) -> None:
        journal.append(STREAM, 0, [entry()])

        assert journal.read(STREAM, after=1) == []

    def test_the_chain_holds_over_several_writes(self, journal: Journal) -> None:
        journal.append(STREAM, 0, [entry(n=1), entry(n=2)])
        journal.append(STREAM, 2, [entry(n=3)])

        assert broken(journal.read(STREAM)) == ""

    @pytest.mark.parametrize("expected", [0, 1, 3])
    def test_a_writer_who_has_not_read_the_newest_record_is_refused(self, journal: Journal, expected: int) -> None:
        journal.append(STREAM, 0, [entry(), entry()])

        with pytest.raises(Conflict):
            journal.append(STREAM, expected, [entry()])

    def test_a_refused_writer_leaves_nothing(self, journal: Journal) -> None:
        before = journal.append(STREAM, 0, [entry()])
        with pytest.raises(Conflict):
            journal.append(STREAM, 0, [entry("other"), entry("other")])

        assert journal.read(STREAM) == before

    def test_no_entries_are_still_compared(self, journal: Journal) -> None:
        journal.append(STREAM, 0, [entry()])

        with pytest.raises(Conflict):
            journal.append(STREAM, 0, [])

    def test_no_entries_write_nothing(self, journal: Journal) -> None:
        assert journal.append(STREAM, 0, []) == []

    def test_a_value_json_cannot_hold_keeps_the_whole_batch_out(self, journal: Journal) -> None:
        with pytest.raises(UsageError):
            journal.append(STREAM, 0, [entry(), entry(share=float("nan"))])

        assert journal.read(STREAM) == []

    def test_streams_do_not_touch_each_other(self, journal: Journal) -> None:
        journal.append("staging/flights", 0, [entry("a")])
        journal.append("production/flights", 0, [entry("b")])

        assert [record.entry.kind for record in journal.read("staging/flights")] == ["a"]

    def test_streams_are_named_in_order(self, journal: Journal) -> None:
        for stream in ("staging/b", "production/b", "staging/a"):
            journal.append(stream, 0, [entry()])

        assert list(journal.heads()) == ["production/b", "staging/a", "staging/b"]

    def test_names_are_in_the_order_of_their_characters_in_any_language(self, journal: Journal) -> None:
        names = ["Z", "a", "b-", "b/a", "b_a", "ba", "z", "é", "☂", "𝄞"]
        for stream in reversed(names):
            journal.append(stream, 0, [entry()])

        assert list(journal.heads()) == names

    def test_the_head_is_the_newest_record(self, journal: Journal) -> None:
        journal.append(STREAM, 0, [entry(), entry()])
        newest = journal.append(STREAM, 2, [entry()])[-1]

        assert journal.heads() == {STREAM: Head(3, newest.digest)}

    def test_only_heads_of_streams_that_begin_alike_are_told(self, journal: Journal) -> None:
        for stream in ("builds/a", "builds/b%", "builds/b_", "builds_c", "Builds/a", "production/builds/a"):
            journal.append(stream, 0, [entry()])

        assert list(journal.heads("builds/")) == ["builds/a", "builds/b%", "builds/b_"]
        assert list(journal.heads("builds/b_")) == ["builds/b_"]

    def test_the_head_has_the_newest_checkpoint(self, journal: Journal) -> None:
        journal.append(STREAM, 0, [entry(), entry(CHECKPOINT, n=1)])
        second = journal.append(STREAM, 2, [entry(CHECKPOINT, n=2), entry()])[0]
        journal.append(STREAM, 4, [entry()])
        journal.append("production/other", 0, [entry(CHECKPOINT, n=3)])

        assert journal.heads()[STREAM].checkpoint == second

    def test_a_refused_writer_does_not_move_the_head(self, journal: Journal) -> None:
        journal.append(STREAM, 0, [entry()])
        before = journal.heads()
        with pytest.raises(Conflict):
            journal.append(STREAM, 0, [entry(CHECKPOINT)])

        assert journal.heads() == before

    def test_no_entries_make_no_stream(self, journal: Journal) -> None:
        journal.append(STREAM, 0, [])

        assert journal.heads() == {}

    def test_of_writers_at_the_same_place_one_wins(self, journal: Journal) -> None:
        outcomes: list[str] = []
        gate = threading.Barrier(4)

        def write(name: str) -> None:
            gate.wait()
            try:
                journal.append(STREAM, 0, [entry(name)])
                outcomes.append("written")
            except JournalError as error:
                outcomes.append(type(error).__name__)

        writers = [threading.Thread(target=write, args=(str(n),)) for n in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()

        assert sorted(outcomes) == ["Conflict", "Conflict", "Conflict", "written"]

    def test_of_writers_in_many_threads_none_loses_a_record(self, journal: Journal) -> None:
        def write(_: int) -> None:
            for _ in range(10):
                while True:
                    try:
                        journal.append(STREAM, len(journal.read(STREAM)), [entry()])
                        break
                    except Conflict:
                        continue

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(write, range(3)))

        records = journal.read(STREAM)
        assert (len(records), broken(records), journal.heads()[STREAM].seq) == (30, "", 30)

    def test_a_held_stream_is_busy(self, journal: Journal) -> None:
        with journal.exclusive(STREAM), pytest.raises(Busy), journal.exclusive(STREAM):
            pass

    def test_another_stream_is_free(self, journal: Journal) -> None:
        with journal.exclusive(STREAM), journal.exclusive("production/other"):
            pass

    def test_a_stream_is_free_again_after_its_holder(self, journal: Journal) -> None:
        with journal.exclusive(STREAM):
            pass

        with journal.exclusive(STREAM):
            pass

    def test_a_holder_that_fails_lets_go(self, journal: Journal) -> None:
        with pytest.raises(ZeroDivisionError), journal.exclusive(STREAM):
            _ = 1 / 0

        with journal.exclusive(STREAM):
            pass

    def test_one_who_waits_long_enough_gets_the_stream(self, journal: Journal) -> None:
        taken, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with journal.exclusive(STREAM):
                taken.set()
                leave.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        taken.wait(10)
        threading.Timer(0.05, leave.set).start()

        with journal.exclusive(STREAM, wait=10):
            assert leave.is_set()
        holder.join()

    def test_a_holder_can_write(self, journal: Journal) -> None:
        with journal.exclusive(STREAM):
            assert journal.append(STREAM, 0, [entry()])


def python(code: str) -> subprocess.Popen[str]:
    """Start a process that runs *code*; its output is to be read, its input to be written."""
    imports = "import sys; from modelcd.errors import *; from modelcd.testing.journal import STREAM, entry\n"
    command = [sys.executable, "-c", imports + code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)


def await_word(process: subprocess.Popen[str], word: str) -> None:
    """Wait until *process* prints *word*."""
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def await_true(fact: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until *fact* holds; fails when it does not within *seconds*."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.01)


def freeze(process: subprocess.Popen[str]) -> None:
    """Stop *process* where it is, as Ctrl-Z or a paused machine does; SIGCONT lets it go on."""
    process.send_signal(signal.SIGSTOP)
    await_true(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)


HOLD = """
number = len(journal.read(STREAM))
with journal.exclusive(STREAM):
    print("held", flush=True)
    sys.stdin.readline()
    try:
        journal.append(STREAM, number, [entry("late")])
        print("written", flush=True)
    except Conflict:
        print("refused", flush=True)
print("left", flush=True)
"""

TAKE_TURNS = """
with journal.exclusive(STREAM, wait=30):
    number = len(journal.read(STREAM))
    for word in ("in", "still", "out"):
        journal.append(STREAM, number, [entry(word)])
        number += 1
"""


class JournalAcrossProcesses:
    """What was written is there for all, a hold ends with its process, and a frozen one loses it and does no harm."""

    def test_another_process_reads_what_was_written(self, journal: Journal, elsewhere: str) -> None:
        written = journal.append(STREAM, 0, [entry(why="naïve – ☂")])

        said, _ = python(elsewhere + "\nprint(journal.read(STREAM)[-1].digest)").communicate(timeout=DEADLINE)

        assert said.strip() == written[-1].digest

    def test_of_processes_at_the_same_place_one_wins(self, journal: Journal, elsewhere: str) -> None:
        code = "\nsys.stdin.readline()\ntry: journal.append(STREAM, 0, [entry()] * 5); print('written')\n"
        writers = [python(elsewhere + code + "except Conflict: print('refused')") for _ in range(3)]
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        said = sorted(writer.communicate(timeout=DEADLINE)[0].strip() for writer in writers)

        assert said == ["refused", "refused", "written"]
        assert (len(journal.read(STREAM)), journal.heads()[STREAM].seq) == (5, 5)

    def test_a_stream_held_by_another_process_is_busy(self, journal: Journal, elsewhere: str) -> None:
        holder = python(elsewhere + HOLD)
        await_word(holder, "held")
        try:
            with pytest.raises(Busy, match=f"process {holder.pid} on "), journal.exclusive(STREAM):
                pass
        finally:
            holder.communicate("go\n", timeout=DEADLINE)

        with journal.exclusive(STREAM):
            pass

    def test_a_hold_ends_at_once_with_a_killed_process(self, journal: Journal, elsewhere: str) -> None:
        holder = python(elsewhere + HOLD)
        await_word(holder, "held")
        holder.kill()
        holder.communicate()

        with journal.exclusive(STREAM, wait=2.0):
            pass

    def test_a_holder_that_lives_keeps_the_stream(self, journal: Journal, elsewhere: str) -> None:
        holder = python(elsewhere + HOLD)
        await_word(holder, "held")
        try:
            with pytest.raises(Busy), journal.exclusive(STREAM, wait=7.0):
                pass
        finally:
            holder.communicate("go\n", timeout=DEADLINE)

    def test_a_frozen_holder_loses_the_stream_and_does_no_harm(self, journal: Journal, elsewhere: str) -> None:
        holder = python(elsewhere + HOLD)
        await_word(holder, "held")
        freeze(holder)
        began = time.monotonic()

        with journal.exclusive(STREAM, wait=30.0):
            waited = time.monotonic() - began
            journal.append(STREAM, 0, [entry("new")])
            holder.send_signal(signal.SIGCONT)
            said, _ = holder.communicate("go\n", timeout=DEADLINE)
            another = "\ntry:\n  with journal.exclusive(STREAM): print('free')\nexcept Busy: print('held')"
            seen, _ = python(elsewhere + another).communicate(timeout=DEADLINE)

        assert (said.split(), seen.strip()) == (["refused", "left"], "held")
        assert 4.0 < waited < 12.0
        assert [record.entry.kind for record in journal.read(STREAM)] == ["new"]
        with journal.exclusive(STREAM):
            pass

    def test_who_looks_again_and_again_without_waiting_takes_over_too(self, journal: Journal, elsewhere: str) -> None:
        holder = python(elsewhere + HOLD)
        await_word(holder, "held")
        freeze(holder)

        def taken() -> bool:
            try:
                with journal.exclusive(STREAM):
                    return True
            except Busy:
                return False

        await_true(taken)
        holder.send_signal(signal.SIGCONT)
        holder.communicate("go\n", timeout=DEADLINE)

    def test_of_many_who_take_over_each_holds_alone(self, journal: Journal, elsewhere: str) -> None:
        holder = python(elsewhere + HOLD)
        await_word(holder, "held")
        freeze(holder)

        robbers = [python(elsewhere + TAKE_TURNS) for _ in range(3)]
        for robber in robbers:
            robber.communicate(timeout=DEADLINE)
        holder.send_signal(signal.SIGCONT)
        said, _ = holder.communicate("go\n", timeout=DEADLINE)

        assert [record.entry.kind for record in journal.read(STREAM)] == ["in", "still", "out"] * 3
        assert said.split() == ["refused", "left"]
