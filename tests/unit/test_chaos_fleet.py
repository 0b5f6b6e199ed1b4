"""What the crash test on real servers hears in the logs of its workers."""

from pathlib import Path

from tests.chaos.fleet import Fleet

ORDINARY = '{"pid":7,"event":"worker.started","level":"info"}\n{"error":"away","event":"dependency.unavailable"}\n'
BUG = '{"lane":"evaluation/1","exception":"Traceback ...","event":"effect.bug","level":"error"}\n'
FAILED = '{"error":"AssignmentLost","event":"worker.failed","level":"error"}\n'
CUT = '{"error":"AssignmentLost","event":"worker.fai\n'


def heard(folder: Path, *logs: str) -> list[str]:
    fleet = Fleet([f"worker-{number}" for number in range(len(logs))], lambda name: {}, folder)
    for worker, log in zip(fleet.workers, logs, strict=True):
        (folder / f"{worker.name}.log").write_text(log)
    return fleet.bugs()


def test_a_bug_or_an_end_that_nobody_asked_for_is_heard_in_any_life_of_any_worker(tmp_path: Path) -> None:
    assert heard(tmp_path, ORDINARY + BUG + ORDINARY, ORDINARY, FAILED) == [
        "worker-0: lane=evaluation/1 event=effect.bug",
        "worker-2: error=AssignmentLost event=worker.failed",
    ]


def test_outages_other_lines_and_lines_that_a_kill_has_cut_are_no_bugs(tmp_path: Path) -> None:
    stopped = "stopped at once, by a second SIGTERM; nothing is lost\n"
    assert heard(tmp_path, CUT.strip() + ORDINARY + CUT + stopped) == []
