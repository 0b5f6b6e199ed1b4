"""`worker audit verify`: decide everything again, and hold checkpoints against every record.

First one pass for the checkpoints, then part after part (source.py says what that is), so that memory is bounded by a
part: reading a log again for each costs little beside deciding, states put aside on a disk would cost more than they
save.  A part that is done stays done: with a file for progress, whoever was interrupted goes on with the next part,
over the same records.  Knows no printing.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from schemas.base import Model
from worker.audit.chains import Chains, Wrong, states_of
from worker.audit.replay import Reader, Told, Unreadable
from worker.audit.source import PART_RECORDS, Part, Source, of_part, parts
from worker.domain.decision import AnyState
from worker.errors import Misconfigured


class Done(Model):
    """What one part came to."""

    partition: int
    """Partition of the audit topic."""
    share: int
    """Which of the partition's shares."""
    counts: dict[str, int]
    """Of `records`, `aggregates`, `repeated`, `refused`, `adopted`, `undecided`."""
    builds: dict[str, int]
    """Records by the build that decided them."""
    subjects: dict[str, int]
    """Records by the hash of their person."""
    wrong: tuple[Wrong, ...]
    """Errors, in the order in which they were found."""


class Progress(Model):
    """What is done so far, as it is kept in a file."""

    bounds: dict[int, tuple[int, int]]
    """By partition: the first offset and the one after the last, as they were when it began."""
    build: str
    """The build that decides again."""
    part_records: int = PART_RECORDS
    """About how many records a part may have."""
    parts: tuple[Done, ...] = ()
    """Parts that are done."""


class Coverage(Model):
    """How far checkpoints cover a partition."""

    partition: int
    """The partition."""
    end: int
    """The offset after the last record that is covered."""
    at: str | None
    """When the last checkpoint was made; absent: there is none."""
    after: int
    """Records behind it, covered by none."""


class Report(Model):
    """What `verify` found."""

    records: int
    """Records read, repetitions too."""
    aggregates: int
    """Aggregates with at least one record."""
    repeated: int
    """Identical repetitions."""
    refused: int
    """Refusals and dry runs, outside of the chains."""
    adopted: int
    """States that were found, as created or changed by somebody else."""
    undecided: int
    """Records whose state before nobody can tell: after an error, or behind a head that was cut."""
    redacted: int
    """Records whose person was erased, or whose key is not in the bundle."""
    builds: dict[str, int]
    """Records by the build that decided them; another one than ours may have decided otherwise."""
    covered: tuple[Coverage, ...] | None
    """By partition; absent: of a bundle of a part."""
    wrong: tuple[Wrong, ...]
    """Every error."""
    decided_seconds: float
    """How long this run took."""
    decided_records: int
    """How many records this run decided again, those of earlier runs not among them."""


class Verify:
    """One verification.  `tick(n)` is told of each n records that are done with; each record is, twice.

    `cut`: the heads of partitions were cut on purpose.  Without it a log that does not begin where it began is wrong.
    """

    def __init__(
        self, source: Source, keys: Iterable[bytes], build: str, *, cut: bool = False, part_records: int = PART_RECORDS
    ) -> None:
        self._source, self._keys, self._build, self._part_records = source, tuple(keys), build, part_records
        self._reader, self._cut = Reader(source), cut

    async def run(self, file: Path | None = None, tick: Callable[[int], None] = lambda _: None) -> Report:
        """All of it.  `file` keeps progress.  Raises Misconfigured (the file is another log's), Unavailable."""
        begun, decided = time.monotonic(), 0
        progress = await self._begin(file)
        wrong, covered = await self._survey(progress.bounds, tick)
        done = {(each.partition, each.share): each for each in progress.parts}
        for part in parts(progress.bounds, progress.part_records):
            if (part.partition, part.share) not in done:
                made = done[part.partition, part.share] = await self._part(part, tick)
                decided += made.counts.get("records", 0)
                progress = progress.model_copy(update={"parts": tuple(done.values())})
                _keep(file, progress)
        return await self._report(list(done.values()), wrong, covered, time.monotonic() - begun, decided)

    async def _begin(self, file: Path | None) -> Progress:
        bounds = dict(await self._source.bounds())
        kept = _kept(file) if file else None
        if kept is None:
            return Progress(bounds=bounds, build=self._build, part_records=self._part_records)
        if kept.build != self._build:
            raise Misconfigured(f"{file} was begun by {kept.build}; this is {self._build}")
        if any(number not in bounds or bounds[number][1] < end for number, (_, end) in kept.bounds.items()):
            raise Misconfigured(f"{file} is of another log, or of one that was longer then")
        return kept

    async def _survey(
        self, bounds: Mapping[int, tuple[int, int]], tick: Callable[[int], None]
    ) -> tuple[list[Wrong], tuple[Coverage, ...] | None]:
        """-> what checkpoints say is wrong, and how far they cover."""
        seals = await self._source.seals(self._keys, cut=self._cut)
        if seals is None:
            return [], None
        async for record in self._source.records(bounds):
            seals.take(record.partition, record.offset, record.value or b"")
            tick(1)
        problems = seals.finish({number: end for number, (_, end) in bounds.items()})
        wrong = [Wrong(where=problem.where, rule=problem.rule, text=problem.text) for problem in problems]
        covered = [
            Coverage(partition=number, end=each.end, at=each.at or None, after=each.after)
            for number, each in seals.covered.items()
        ]
        return wrong, tuple(covered)

    async def _part(self, part: Part, tick: Callable[[int], None]) -> Done:
        chains = Chains(self._reader, cut=self._cut and part.bounds[0] > 0)
        async for record in of_part(self._source, part):
            await chains.take(record)
            tick(1)
        if waiting := chains.leave():
            await self._look_back(chains, waiting, part)
        return Done(
            partition=part.partition,
            share=part.share,
            counts={"aggregates": len(chains.chains), **chains.counts},
            builds=dict(chains.builds),
            subjects=dict(chains.subjects),
            wrong=tuple(chains.wrong),
        )

    async def _look_back(self, chains: Chains, waiting: Mapping[str, list[tuple[str, Told]]], part: Part) -> None:
        """Refusals on a state that had gone by when they came: rare, so those chains are simply read once more."""
        states: dict[str, AnyState | None] = dict.fromkeys(waiting)
        numbers = dict.fromkeys(waiting, 0)
        left = {key: list(each) for key, each in waiting.items()}
        async for record in of_part(self._source, part):
            key = (record.key or b"").decode("utf-8", "replace")
            if not left.get(key):
                continue
            try:
                told = await self._reader.read(record.value or b"")
            except Unreadable:
                continue
            if told.record.kind == "refused" or told.record.audit_seq <= numbers[key]:
                continue
            numbers[key] = told.record.audit_seq
            state = states[key] = states_of(told, states[key])
            for each in [
                each for each in left[key] if each[1].record.state_before_sha256 == told.record.state_after_sha256
            ]:
                if state is not None:
                    left[key].remove(each)
                    await chains.refused_on(*each, state)
        for key, each_left in left.items():
            for where, _ in each_left:
                if chains.cut or chains.counts["undecided"]:
                    chains.counts["undecided"] += 1
                else:
                    text = "was decided on a state that no record of its chain ends with"
                    chains.wrong.append(Wrong(where=where, aggregate=key, audit_seq=0, rule="refused_on", text=text))

    async def _report(
        self,
        done: list[Done],
        wrong: list[Wrong],
        covered: tuple[Coverage, ...] | None,
        seconds: float,
        decided: int,
    ) -> Report:
        builds: dict[str, int] = {}
        subjects: dict[str, int] = {}
        for part in done:
            for total, more in ((builds, part.builds), (subjects, part.subjects)):
                for name, number in more.items():
                    total[name] = total.get(name, 0) + number
        redacted = [number for name, number in subjects.items() if await self._source.personal(name) is None]
        names = ("records", "aggregates", "repeated", "refused", "adopted", "undecided")
        return Report(
            **{name: sum(part.counts.get(name, 0) for part in done) for name in names},
            redacted=sum(redacted),
            builds=builds,
            covered=covered,
            wrong=(*wrong, *(each for part in done for each in part.wrong)),
            decided_seconds=seconds,
            decided_records=decided,
        )


def _kept(file: Path) -> Progress | None:
    """None: there is no such file yet."""
    try:
        return Progress.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise Misconfigured(f"{file} does not hold the progress of a verification") from None


def _keep(file: Path | None, progress: Progress) -> None:
    """Whole or not at all."""
    if file is None:
        return
    beside = file.with_name(f"{file.name}.part")
    try:
        beside.write_text(progress.model_dump_json(), "utf-8")
        beside.replace(file)
    except OSError as error:
        raise Misconfigured(f"{file} cannot be written: {error.strerror}") from error
