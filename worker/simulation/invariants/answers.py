"""I1, I5, I7 and I11: verdicts, positions, and who may write them."""

from collections import defaultdict
from collections.abc import Iterator

from worker.simulation.invariants.evidence import Coordinates, Position, Violation
from worker.simulation.invariants.reading import Command, Done, Reading, Result, done


def i1_one_verdict(reading: Reading) -> Iterator[Violation]:
    """Each command record leads to exactly one verdict record; after a 2xx, the same bytes again.

    One from which no id can be read leads to a dead letter instead.  A second verdict record would be legitimate after
    metadata of a position that cannot be read (design, must 6); no fault here makes it so.  A dead letter holds the
    record's bytes.
    """
    for at, command in reading.commands.items():
        results, letters = reading.results.get(at, []), reading.dead_letters.get(at, [])
        if len(results) > 1:
            yield Violation("I1", command.key, f"{len(results)} verdicts on one record", at)
        if len(letters) > 1:
            yield Violation("I1", command.key, f"{len(letters)} dead letters of one record", at)
        if reading.evidence.at_rest and not (results if command.id else letters):
            yield Violation("I1", command.key, "no verdict" if command.id else "no dead letter", at)
        for letter in letters:
            if letter != command.value:
                yield Violation("I1", command.key, "a dead letter holds other bytes than the record", at)
        for result in results:
            yield from _its_own(command, result)
    for at in reading.results.keys() - reading.commands.keys():
        yield Violation("I1", reading.results[at][0].key, "a verdict on no record", at)
    yield from _same_bytes(reading)


def _its_own(command: Command, result: Result) -> Iterator[Violation]:
    said = result.verdict["command"]["id"]
    if said != command.id:
        yield Violation("I1", command.key, f"the verdict is on command {said}, not {command.id}", command.at)
    if result.verdict["code"] == "internal_error":
        yield Violation("I1", command.key, "answered as if it had met a bug", command.at)
    if result.event_id != result.verdict["id"]:
        yield Violation("I1", command.key, "the event's id is not the verdict's", command.at)


def _same_bytes(reading: Reading) -> Iterator[Violation]:
    """A command is known by aggregate, id and fingerprint."""
    groups: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for at in sorted(reading.results):
        for result in reading.results[at]:
            command = result.verdict["command"]
            if command.get("fingerprint") and not result.verdict["dry_run"]:
                groups[result.key, command["id"], command["fingerprint"]].append(result)
    remembered: dict[str, set[str]] = defaultdict(set)
    for (key, command_id, _), results in groups.items():
        if any(result.applied for result in results):
            remembered[key].add(command_id)
    for (key, _, _), results in groups.items():
        if len(results) == 1:
            continue
        first = next((result for result in results if result.applied), None)
        answered: dict[int, Result] = {}
        for result in results:
            if first and result.applied and result.value != first.value:
                yield Violation("I1", key, f"another 2xx than record {first.at[0]}:{first.at[1]} got", result.at)
            before = answered.get(result.at[0])
            if before and not result.applied:
                forgotten = len(remembered[key]) > reading.evidence.memory_commands
                if not (forgotten and result.verdict["code"] == "too_old_to_tell"):
                    said = f"{result.verdict['code']}, although record {before.at[0]}:{before.at[1]} of the same"
                    yield Violation("I1", key, f"{said} command was answered 2xx", result.at)
            if result.applied:
                answered.setdefault(result.at[0], result)


def i5_positions(reading: Reading) -> Iterator[Violation]:
    """No position passes a command without its verdict: at every commit, and now."""
    answered: set[Coordinates] = set()
    if reading.evidence.transactions:
        yield from _at_each_commit(reading, answered)
    answered |= reading.results.keys() | reading.dead_letters.keys()
    for partition, position in reading.evidence.positions.items():
        yield from _passed(reading, partition, position, answered)


def _at_each_commit(reading: Reading, answered: set[Coordinates]) -> Iterator[Violation]:
    topics = ("results", "dead-letters")
    published = {
        (topic, partition, record.offset): record
        for topic in topics
        for partition, records in enumerate(reading.evidence.topics.get(topic, ()))
        for record in records
    }
    told: set[Coordinates] = set()
    for transaction in reading.evidence.transactions:
        if not transaction.committed:
            continue
        for each in transaction.records:
            if record := published.get(each):
                headers = dict(record.headers)
                prefix = "verdict" if each[0] == "results" else "dead-letter"
                answered.add((int(headers[f"{prefix}-partition"]), int(headers[f"{prefix}-offset"])))
        for partition, position in transaction.positions:
            for violation in _passed(reading, partition, position, answered):
                if violation.at and violation.at not in told:
                    told.add(violation.at)
                    yield violation._replace(text=f"{violation.text}, at {transaction.seconds:.3f} s")


def _passed(reading: Reading, partition: int, position: Position, answered: set[Coordinates]) -> Iterator[Violation]:
    passed = done(position)
    for record in reading.evidence.topics["commands"][partition]:
        at = (partition, record.offset)
        if at not in answered and record.offset in passed:
            yield Violation("I5", reading.commands[at].key, "the position has passed it without a verdict", at)


def i7_one_writer(reading: Reading) -> Iterator[Violation]:
    """At most one effective writer per partition: one transactional id, epochs that never go back, nor the position.

    Whatever a position calls finished stays finished: a zombie's in-memory progress would undo that (facts, K3).
    """
    ids: dict[int, str] = {}
    epochs: dict[str, int] = {}
    finished: dict[int, Done] = {}
    for transaction in reading.evidence.transactions:
        if not transaction.committed:
            continue
        who, when = transaction.transactional_id, f"at {transaction.seconds:.3f} s"
        if transaction.epoch < epochs.get(who, transaction.epoch):
            text = f"{who}: epoch {transaction.epoch} has committed after epoch {epochs[who]}, {when}"
            yield Violation("I7", "", text)
        epochs[who] = max(transaction.epoch, epochs.get(who, 0))
        for partition, position in transaction.positions:
            if ids.setdefault(partition, who) != who:
                yield Violation("I7", "", f"partition {partition} is written by {ids[partition]} and {who}, {when}")
            now, before = done(position), finished.get(partition)
            if before is not None and (undone := _undone(reading, partition, before, now)) is not None:
                text = f"the position went back, {when}: what was finished is not any more"
                yield Violation("I7", reading.commands[partition, undone].key, text, (partition, undone))
            finished[partition] = now


def _undone(reading: Reading, partition: int, before: Done, after: Done) -> int | None:
    """The first offset that was finished, and is not any more."""
    records = reading.evidence.topics["commands"][partition]
    return next((each.offset for each in records if each.offset in before and each.offset not in after), None)


def i11_no_lag(reading: Reading) -> Iterator[Violation]:
    """At rest the lag is 0: every command record is finished, and nothing below the position is not."""
    if not reading.evidence.at_rest:
        return
    finished = {partition: done(position) for partition, position in reading.evidence.positions.items()}
    for (partition, offset), command in reading.commands.items():
        if partition not in finished or offset not in finished[partition]:
            yield Violation("I11", command.key, "not finished, although everything is at rest", (partition, offset))
    for partition, each in finished.items():
        if not each.readable:
            yield Violation("I11", "", f"the metadata of partition {partition}'s position is unreadable")
