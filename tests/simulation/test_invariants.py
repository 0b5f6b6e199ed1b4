"""I1, I5, I6, I7, I10, I11 and I14: what is published, each broken in a history made by hand; and the story of one.

A history that keeps every promise is left alone.  What workers really leave behind is checked by every simulation.
"""

import json
from dataclasses import replace

import pytest

from tests.simulation.breaking import Breaks, Broken, assert_named, cases, set_state
from tests.simulation.told import (
    EVALUATION,
    SESSION_KEY,
    WORKFLOW_KEY,
    WORKFLOW_PATH,
    Json,
    Told,
    command,
    refuse,
    told,
    verdict,
)
from worker.runtime.position import encode
from worker.simulation.invariants import INVARIANTS, Position, Transaction, check

breaks = Breaks()


# ------------------------------------------------------------------------------ I1


@breaks("I1", WORKFLOW_KEY, "no verdict")
def _a_record_without_a_verdict(history: Told) -> None:
    del history.topics["results"][0][1]


@breaks("I1", WORKFLOW_KEY, "2 verdicts on one record")
def _a_record_with_two(history: Told) -> None:
    history.result((0, 0), WORKFLOW_KEY, history.topics["results"][0][0].value or b"")


@breaks("I1", WORKFLOW_KEY, "no dead letter")
def _poison_without_a_dead_letter(history: Told) -> None:
    history.publish("commands", 0, WORKFLOW_KEY, b"\xff", ce_id="")


@breaks("I1", WORKFLOW_KEY, "a dead letter holds other bytes")
def _a_dead_letter_that_lost_bytes(history: Told) -> None:
    history.publish("dead-letters", 0, WORKFLOW_KEY, b"?", dead_letter_partition="0", dead_letter_offset="2")
    headers = (("dead-letter-partition", b"0"), ("dead-letter-offset", b"2"))
    letters = history.topics["dead-letters"][0]
    letters[0] = letters[0]._replace(headers=headers)


@breaks("I1", WORKFLOW_KEY, "another 2xx than record 0:0 got")
def _other_bytes_for_the_same_command(history: Told) -> None:
    history.republish("results", 1, lambda said: said.update(message="another"))


@breaks("I1", WORKFLOW_KEY, "already_terminal, although record 0:0 of the same command was answered 2xx")
def _refused_after_a_2xx(history: Told) -> None:
    del history.topics["results"][0][1]
    history.result((0, 1), WORKFLOW_KEY, verdict("cancel-1", (0, 1), "already_terminal", 400))


@breaks("I1", WORKFLOW_KEY, "the verdict is on command cancel-2, not cancel-1")
def _a_verdict_on_another_command(history: Told) -> None:
    del history.topics["results"][0][1]
    history.result((0, 1), WORKFLOW_KEY, verdict("cancel-2", (0, 1), "already_terminal", 400))


# ------------------------------------------------------------------------------ I5, I7, I11


@breaks("I5", WORKFLOW_KEY, "the position has passed it without a verdict")
def _a_position_too_far(history: Told) -> None:
    at = history.send(0, WORKFLOW_KEY, "cancel-3")
    history.positions[0] = Position(at[1] + 1, "")


@breaks("I5", SESSION_KEY, "the position has passed it without a verdict, at")
def _a_position_before_its_verdicts(history: Told) -> None:
    history.transactions.reverse()
    history.transactions[0] = history.transactions[0]._replace(records=())


@breaks("I5", WORKFLOW_KEY, "the position has passed it without a verdict")
def _an_unfinished_one_dropped_from_the_set(history: Told) -> None:
    del history.topics["results"][0][1]
    history.positions[0] = Position(0, encode(0, 3, [0]))


@breaks("I7", "", "worker-0: epoch 2 has committed after epoch 3")
def _an_older_epoch_that_commits(history: Told) -> None:
    history.transactions.append(history.transactions[0]._replace(epoch=2, records=()))


@breaks("I7", "", "partition 0 is written by worker-0 and worker-7")
def _two_writers(history: Told) -> None:
    history.transactions.append(Transaction(99.0, "worker-7", 9, True, (), ((0, Position(3, "")),)))


@breaks("I7", WORKFLOW_KEY, "the position went back")
def _a_position_moved_back(history: Told) -> None:
    history.transactions.append(Transaction(99.0, "worker-0", 3, True, (), ((0, Position(2, "")),)))


@breaks("I11", WORKFLOW_KEY, "not finished, although everything is at rest")
def _a_lag(history: Told) -> None:
    history.positions[0] = Position(1, encode(1, 3, [1]))


@breaks("I11", "", "the metadata of partition 0's position is unreadable")
def _unreadable_metadata(history: Told) -> None:
    history.positions[0] = Position(3, "2:later")


# ------------------------------------------------------------------------------ I6


@breaks("I6", WORKFLOW_KEY, "decided at 5, after the later record 0:4")
def _two_commands_in_the_other_order(history: Told) -> None:
    first, second = history.send(0, WORKFLOW_KEY, "u-1"), history.send(0, WORKFLOW_KEY, "u-2")
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, command("u-2", second), [], phase="two")
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, command("u-1", first), [], phase="one")


@breaks("I6", WORKFLOW_KEY, "refused after the later record 0:4 was decided")
def _a_refusal_after_a_later_write(history: Told) -> None:
    first, second = history.send(0, WORKFLOW_KEY, "u-1"), history.send(0, WORKFLOW_KEY, "u-2")
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, command("u-2", second), [], phase="two")
    refuse(history, first, "u-1")


@breaks("I6", WORKFLOW_KEY, "refused before the earlier record 0:3 was decided")
def _a_refusal_before_an_earlier_write(history: Told) -> None:
    first, second = history.send(0, WORKFLOW_KEY, "u-1"), history.send(0, WORKFLOW_KEY, "u-2")
    before = history.state(WORKFLOW_PATH)
    history.decide(WORKFLOW_PATH, WORKFLOW_KEY, command("u-1", first), [], phase="one")
    refuse(history, second, "u-2", before)


@breaks("I6", WORKFLOW_KEY, "refused on a state that no audit record knows")
def _a_refusal_on_a_state_that_never_was(history: Told) -> None:
    at = history.send(0, WORKFLOW_KEY, "u-1")
    refuse(history, at, "u-1", history.state(WORKFLOW_PATH) | {"phase": "never"})


@breaks("I6", WORKFLOW_KEY, "and refused on what was replaced at")
def _a_refusal_on_what_was_read_before_its_record(history: Told) -> None:
    at = history.send(0, WORKFLOW_KEY, "u-1")
    first = json.loads(next(write.body for write in history.writes if write.key == WORKFLOW_PATH) or b"")
    refuse(history, at, "u-1", first["state"])


# ------------------------------------------------------------------------------ I10, I14


@breaks("I10", WORKFLOW_KEY, "audit record 3 does not hold the hash of the one before")
def _a_chain_that_is_broken(history: Told) -> None:
    index = _places(history, 2)[0]
    history.republish("audit", index, lambda record: record.update(events=[]))


@breaks("I10", WORKFLOW_KEY, "audit record 3 comes where 2 was expected")
def _a_chain_out_of_order(history: Told) -> None:
    records, (second,), (third,) = history.topics["audit"][0], _places(history, 2), _places(history, 3)
    records[second], records[third] = records[third], records[second]


@breaks("I10", WORKFLOW_KEY, "audit record 2 is published again with other bytes")
def _a_repetition_with_other_bytes(history: Told) -> None:
    record = history.topics["audit"][0][_places(history, 2)[0]]
    history.publish("audit", 0, WORKFLOW_KEY, (record.value or b"") + b" ")


@breaks("I10", WORKFLOW_KEY, "2 audit records are published, the document has 3")
def _an_outbox_trimmed_early(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, lambda body: body.update(outbox=[]))
    del history.topics["audit"][0][_places(history, 3)[0]]


@breaks("I10", WORKFLOW_KEY, "is not published as the outbox holds it")
def _a_status_event_that_is_not_published(history: Told) -> None:
    del history.topics["status"][0][1]


@breaks("I10", WORKFLOW_KEY, f"workflow {EVALUATION}: version 1 after 2")
def _status_events_out_of_order(history: Told) -> None:
    records = history.topics["status"][0]
    records[0], records[1] = records[1], records[0]


@breaks("I10", WORKFLOW_KEY, "changes at version 2 from running, where it was cancelling")
def _a_status_event_left_out(history: Told) -> None:
    history.republish("status", 1, lambda event: event.update(before="running"))


@breaks("I10", WORKFLOW_KEY, "a refusal is published before the state that it was decided on")
def _a_refusal_without_the_outbox_before_it(history: Told) -> None:
    refusal = next(each for each in _audit_of(history) if each[1]["kind"] == "refused")[0]
    last = max(_audit_of(history), key=lambda each: each[1]["audit_seq"])[0]
    (transaction, *others) = history.transactions
    late = tuple(each for each in transaction.records if each == ("audit", 0, last))
    assert late
    assert ("audit", 0, refusal) in transaction.records
    records = tuple(each for each in transaction.records if each not in late)
    history.transactions = [transaction._replace(records=records), others[0]._replace(records=late), *others[1:]]


def _audit_of(history: Told) -> list[tuple[int, Json]]:
    """The evaluation's audit records, by offset."""
    records = history.topics["audit"][0]
    return [(each.offset, json.loads(each.value or b"")) for each in records if each.key == WORKFLOW_KEY.encode()]


def _places(history: Told, sequence: int) -> list[int]:
    """Of the evaluation's audit records with this number."""
    records = history.topics["audit"][0]
    mine = [(place, each) for place, each in enumerate(records) if each.key == WORKFLOW_KEY.encode()]
    return [place for place, each in mine if json.loads(each.value or b"")["audit_seq"] == sequence]


@breaks("I14", WORKFLOW_KEY, "audit record 3 begins with another state than 2 left")
def _a_gap_between_states(history: Told) -> None:
    history.republish("audit", _places(history, 3)[0], lambda record: record.update(state_before_sha256="0" * 64))


@breaks("I14", WORKFLOW_KEY, "the last audit record left another state than the document's chain says")
def _a_chain_of_another_state(history: Told) -> None:
    history.republish("audit", _places(history, 3)[0], lambda record: record.update(state_after_sha256="0" * 64))


@breaks("I14", WORKFLOW_KEY, "the document's state is not the one that its chain says")
def _a_document_that_was_not_decided(history: Told) -> None:
    history.rewrite(WORKFLOW_PATH, set_state(phase="odd"))


@breaks("I14", WORKFLOW_KEY, "its events, folded, give another state than the last audit record left")
def _events_that_say_less_than_was_decided(history: Told) -> None:
    history.more["rebuilt"] = {WORKFLOW_KEY: "0" * 64}


# ------------------------------------------------------------------------------ the tests


@pytest.mark.parametrize("broken", cases(breaks))
def test_what_breaks_a_promise_is_named(broken: Broken) -> None:
    assert_named(broken)


def test_each_of_these_invariants_is_broken_here_and_the_others_elsewhere() -> None:
    elsewhere = {"I2", "I3", "I4", "I8", "I9", "I12", "I15"}
    assert breaks.invariants == set(INVARIANTS) - elsewhere


def test_a_history_that_keeps_every_promise_is_left_alone() -> None:
    assert check(told().evidence()) == []


def test_what_is_published_again_byte_for_byte_is_left_alone() -> None:
    history = told()
    for topic in ("audit", "status"):
        for record in history.topics[topic][0][:3]:
            history.publish(topic, 0, (record.key or b"").decode(), record.value or b"")
    assert check(history.evidence()) == []


def test_what_is_not_answered_yet_is_left_alone_while_it_runs() -> None:
    history = told()
    history.send(0, WORKFLOW_KEY, "cancel-3")
    assert {each.invariant for each in check(history.evidence())} == {"I1", "I11"}
    history.more["at_rest"] = False
    assert check(history.evidence()) == []


def test_a_command_that_is_out_of_memory_is_too_old_to_tell() -> None:
    history = told()
    results = history.topics["results"][0]
    results[1] = results[1]._replace(value=verdict("cancel-1", (0, 1), "too_old_to_tell", 409))
    evidence = history.evidence()
    assert [each.invariant for each in check(evidence)] == ["I1"], "128 are remembered"
    assert check(replace(evidence, memory_commands=0)) == []


def test_a_dry_run_is_not_remembered() -> None:
    history = told()
    at = history.send(0, WORKFLOW_KEY, "dry-1")
    history.result(at, WORKFLOW_KEY, verdict("dry-1", at, "cancelled", 200, dry_run=True))
    history.commit(0, 4)
    assert check(history.evidence()) == []


def test_a_transaction_that_was_aborted_says_nothing() -> None:
    history = told()
    history.transactions.append(Transaction(99.0, "worker-7", 1, False, (), ((0, Position(0, "")),)))
    assert check(history.evidence()) == []
