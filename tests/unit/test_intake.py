"""Intake: the bound of unfinished commands, and what the position says to resume."""

from datetime import UTC, datetime
from typing import Any

from worker.ports import Assignment, Position, Record, Topic
from worker.runtime.intake import BYTES_MAX, Intake
from worker.runtime.position import UNFINISHED_MAX, Progress, encode


class Log:
    """Notes what it is told; nothing else of the port is used here."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self, _: Assignment) -> None:
        self.told.append("pause")

    def resume(self, _: Assignment) -> None:
        self.told.append("resume")


def record(offset: int, size: int = 1) -> Record:
    return Record(Topic.COMMANDS, 0, offset, datetime(2026, 1, 1, tzinfo=UTC), b"k", b"x" * size, ())


def intake(position: Position | None = None) -> tuple[Intake, Progress, list[int], Log]:
    log: Any = Log()
    progress, handed = Progress(position, 0), list[int]()
    return (
        Intake(log, Assignment(0, 1, position, 0, 9999, 1), progress, lambda r: handed.append(r.offset)),
        progress,
        handed,
        log,
    )


def test_at_the_bound_the_partition_waits_and_goes_on_when_there_is_room() -> None:
    taking, progress, handed, log = intake()
    taking.take([record(offset) for offset in range(UNFINISHED_MAX + 10)])
    assert (len(handed), log.told) == (UNFINISHED_MAX, ["pause"])
    for offset in range(200):
        progress.finish(offset)
        taking.finished(record(offset))
    assert handed == list(range(UNFINISHED_MAX + 10))
    assert log.told == ["pause", "resume"]


def test_bytes_are_bounded_too_but_one_record_always_passes() -> None:
    taking, progress, handed, log = intake()
    taking.take([record(0, BYTES_MAX + 1), record(1)])
    assert (handed, log.told) == ([0], ["pause"])
    progress.finish(0)
    taking.finished(record(0, BYTES_MAX + 1))
    assert (handed, log.told) == ([0, 1], ["pause", "resume"])


def test_what_the_position_says_to_resume_is_let_in_at_the_bound() -> None:
    """A worker that died with 512 unfinished: nothing else would ever make room."""
    holes = list(range(0, UNFINISHED_MAX * 2, 2))
    position = Position(0, encode(0, UNFINISHED_MAX * 2, holes))
    taking, _, handed, log = intake(position)
    taking.take([record(offset) for offset in range(UNFINISHED_MAX * 2)])
    assert (handed, log.told) == (holes, ["pause"])
    taking.take([record(UNFINISHED_MAX * 2)])
    assert handed == holes
