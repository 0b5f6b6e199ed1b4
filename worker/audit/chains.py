"""The chains of aggregates, record by record: what is missing, changed, out of place, or decided otherwise.

A chain costs its state and 24 bytes of each record; a refusal, which stands outside of the chain, waits until the state
that it was decided on has come by.  After an error it goes on with what is still certain: a state that nobody can tell
any more is none, and decisions on it count as `undecided`, which never happens without an error before it or a head
that was cut.  Knows neither sources nor checkpoints.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from schemas.base import Model
from schemas.documents import digest
from worker.audit.replay import Reader, Told, Unreadable, fold
from worker.domain.decision import AnyState, Decision, Refused, Written
from worker.ports import Record

KEPT_BYTES = 16


class Wrong(Model):
    """One error."""

    where: str
    """Its record, `partition:offset` in the audit topic; of a checkpoint, the records that it covers."""
    aggregate: str | None = None
    """Key of the aggregate, where that can be told."""
    audit_seq: int | None = None
    """The record's number in its chain, where that can be told; 0: a refusal."""
    rule: str
    """Which rule is broken, stable."""
    text: str
    """How, for people."""


@dataclass(slots=True)
class Chain:
    """How far an aggregate's chain was followed; `state` is None where nobody can tell it."""

    audit_seq: int = 0
    record_sha256: str | None = None
    state_sha256: str | None = None
    state: AnyState | None = None
    seen: dict[int, bytes] = field(default_factory=dict)
    """By audit_seq: the beginning of the record's hash, and its offset in 8 bytes."""
    waiting: list[tuple[str, Told]] = field(default_factory=list)
    """Refusals, and where they stand, on a state that has not come by yet."""


@dataclass
class Chains:
    """Those of one partition.  `cut`: its head was cut, so a chain may begin with any number."""

    reader: Reader
    cut: bool
    wrong: list[Wrong] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    subjects: Counter[str] = field(default_factory=Counter)
    builds: Counter[str] = field(default_factory=Counter)
    chains: dict[str, Chain] = field(default_factory=dict)

    async def take(self, record: Record) -> None:
        """The next record.  Raises Unavailable."""
        where = f"{record.partition}:{record.offset}"
        self.counts["records"] += 1
        try:
            told = await self.reader.read(record.value or b"")
        except Unreadable as error:
            self._wrong(where, (record.key or b"").decode("utf-8", "replace"), None, error.rule, str(error))
            return
        key = told.record.aggregate.key
        if key.encode() != record.key:
            self._wrong(where, key, told.record.audit_seq, "key", "it stands under the key of another aggregate")
        chain = self.chains.setdefault(key, Chain())
        in_chain = told.record.kind != "refused"
        if in_chain and not self._follows(where, record.offset, chain, told):
            return
        self.builds[told.record.context.build] += 1
        if told.record.personal:
            self.subjects[told.record.personal.subject_sha256] += 1
        if in_chain:
            await self._decided(where, chain, told)
        else:
            self.counts["refused"] += 1
            await self._refusal(where, chain, told)

    def leave(self) -> dict[str, list[tuple[str, Told]]]:
        """Refusals that still wait, by aggregate, for a second look at the states that had gone by before them."""
        return {key: chain.waiting for key, chain in self.chains.items() if chain.waiting}

    async def refused_on(self, where: str, told: Told, state: AnyState | None) -> None:
        """A refusal, and the state that it was decided on."""
        try:
            decision = await self.reader.again(told, state)
        except Unreadable as error:
            self._of(where, told, error.rule, str(error))
            return
        if not isinstance(decision, Refused):
            self._of(where, told, "decision", f"recorded as refused; decided again: {_named(decision)}")
        elif decision.verdict != told.record.verdict:
            recorded = told.record.verdict.code if told.record.verdict else "none"
            self._of(
                where, told, "verdict", f"recorded: {recorded}; decided again: {decision.verdict.code}, or other fields"
            )

    # ------------------------------------------------------------------------------ its place in the chain

    def _follows(self, where: str, offset: int, chain: Chain, told: Told) -> bool:
        """Whether it is the first of its number, and not too late to go on with."""
        sequence = told.record.audit_seq
        kept, at = bytes.fromhex(told.sha256)[:KEPT_BYTES], offset.to_bytes(8, "big")
        before = chain.seen.setdefault(sequence, kept + at)
        if before != kept + at:
            if before[:KEPT_BYTES] == kept:
                self.counts["repeated"] += 1
            else:
                first = f"{where.partition(':')[0]}:{int.from_bytes(before[KEPT_BYTES:], 'big')}"
                self._of(where, told, "repetition", f"differs from the record of the same number at {first}")
            return False
        if sequence <= chain.audit_seq:
            self._of(where, told, "order", f"comes after number {chain.audit_seq}")
            return False
        begins = self.cut and chain.audit_seq == 0
        if sequence != chain.audit_seq + 1 and not begins:
            last = f"..{sequence - 1}" if sequence - 1 > chain.audit_seq + 1 else ""
            self._of(where, told, "gap", f"number {chain.audit_seq + 1}{last} should stand before it")
            chain.state = None
        elif not begins:
            if told.record.previous_sha256 != chain.record_sha256:
                self._of(where, told, "chain", "holds another hash of the record before than that record has")
            if told.record.state_before_sha256 != chain.state_sha256:
                self._of(where, told, "state_before", "begins with another state than the record before ended with")
        return True

    # ------------------------------------------------------------------------------ what was decided

    async def _decided(self, where: str, chain: Chain, told: Told) -> None:
        record = told.record
        if record.kind == "adopted":
            self.counts["adopted"] += 1
            chain.state = self._adopted(where, told)
        elif chain.state is None:
            self.counts["undecided"] += 1
            if chain.audit_seq == 0 and record.audit_seq == 1:
                self._of(where, told, "head", "a chain begins with the state that was found; this one does not")
        else:
            chain.state = await self._again(where, chain.state, told)
        chain.audit_seq, chain.record_sha256 = record.audit_seq, told.sha256
        chain.state_sha256 = record.state_after_sha256
        due = [each for each in chain.waiting if each[1].record.state_before_sha256 == chain.state_sha256]
        if due and chain.state is not None:
            chain.waiting = [each for each in chain.waiting if each not in due]
            for at, refusal in due:
                await self.refused_on(at, refusal, chain.state)

    def _adopted(self, where: str, told: Told) -> AnyState | None:
        if told.found is None or digest(told.found) != told.record.state_after_sha256:
            self._of(where, told, "found", "the state that was found has another hash than is recorded")
        return told.found

    async def _again(self, where: str, state: AnyState, told: Told) -> AnyState | None:
        """-> the state after it: as decided again; where that differs, as recorded, if that has the recorded hash."""
        recorded = told.record.state_after_sha256
        try:
            decision = await self.reader.again(told, state)
        except Unreadable as error:
            self._of(where, told, error.rule, str(error))
            return _as_recorded(state, told)
        if not isinstance(decision, Written):
            self._of(where, told, "decision", f"recorded as written; decided again: {_named(decision)}")
            return _as_recorded(state, told)
        if decision.events != told.events:
            self._of(where, told, "events", f"recorded: {_kinds(told.events)}; again: {_kinds(decision.events)}")
            return _as_recorded(state, told)
        if digest(decision.state) != recorded:
            self._of(where, told, "state_after", "ends with another state than is recorded")
        return decision.state

    async def _refusal(self, where: str, chain: Chain, told: Told) -> None:
        record = told.record
        if told.found is not None:
            if digest(told.found) != record.state_before_sha256:
                self._of(where, told, "found", "the state that was found has another hash than is recorded")
            await self.refused_on(where, told, told.found)
        elif record.state_before_sha256 is None:
            await self.refused_on(where, told, None)
        elif record.state_before_sha256 == chain.state_sha256 and chain.state is not None:
            await self.refused_on(where, told, chain.state)
        else:
            chain.waiting.append((where, told))

    def _of(self, where: str, told: Told, rule: str, text: str) -> None:
        self._wrong(where, told.record.aggregate.key, told.record.audit_seq, rule, text)

    def _wrong(self, where: str, aggregate: str, audit_seq: int | None, rule: str, text: str) -> None:
        self.wrong.append(Wrong(where=where, aggregate=aggregate, audit_seq=audit_seq, rule=rule, text=text))


def states_of(told: Told, state: AnyState | None) -> AnyState | None:
    """The state after a record of a chain, by what is recorded alone; None: that cannot be told."""
    if told.record.kind == "adopted":
        return told.found
    return _as_recorded(state, told) if state is not None else None


def _as_recorded(state: AnyState, told: Told) -> AnyState | None:
    try:
        after = fold(state, told.events)
    except (TypeError, ValueError, AttributeError):
        return None
    return after if digest(after) == told.record.state_after_sha256 else None


def _named(decision: Decision) -> str:
    match decision:
        case Refused(verdict):
            return f"refused, {verdict.code}"
        case Written(events):
            return f"written, {_kinds(events)}"
        case _:
            return type(decision).__name__.lower()


def _kinds(events: tuple[object, ...]) -> str:
    """Kinds of events, and the codes of their verdicts."""

    def one(event: object) -> Iterator[str]:
        yield str(getattr(event, "kind", event))
        if verdict := getattr(event, "verdict", None):
            yield f"({verdict.code})"

    return ", ".join("".join(one(event)) for event in events) or "none"
