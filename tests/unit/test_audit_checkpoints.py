"""Checkpoints: how they are made, by owners that come and go; and that no tampering with the log gets past them."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from schemas.checkpoints import Checkpoint, SignedCheckpoint
from tests.unit.chained import KEYS, SIGNED, Log, Sealed, judged, link, packed, rechained
from worker.audit.checkpoints import seals
from worker.audit.verify_bundle import Lines, Seals
from worker.ports import Outgoing, Topic
from worker.runtime import checkpointer
from worker.signing import UNSIGNED, Signers, signed

A = (KEYS["a"].public,)


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Sealed]:
    """Three aggregates, and nothing written yet."""
    made = Sealed(tmp_path)
    yield made
    made.close()


async def said(sealed: Sealed) -> list[Checkpoint]:
    return [SignedCheckpoint.model_validate_json(value).checkpoint for value in await sealed.checkpoints()]


async def verified(sealed: Sealed, keys: tuple[bytes, ...] = A) -> list[tuple[str, str]]:
    log = await sealed.log()
    return judged(await seals(sealed.stream, keys), log, len(log))


async def three(sealed: Sealed) -> None:
    """Seven records under three checkpoints, 0 to 3, 3 to 5 and 5 to 7."""
    maker = sealed.checkpointer()
    for names in (("p", "q", "p"), ("q", "p"), ("r", "q")):
        await sealed.write(*names)
        await maker.once()


# ------------------------------------------------------------------------------ made


async def test_each_goes_on_where_the_one_before_ends_and_holds_its_hash(sealed: Sealed) -> None:
    await three(sealed)
    bodies = [SignedCheckpoint.model_validate_json(value) for value in await sealed.checkpoints()]
    made = [body.checkpoint for body in bodies]
    assert [(c.sequence, c.first_offset, c.end_offset, c.records) for c in made] == [
        (1, 0, 3, 3),
        (2, 3, 5, 2),
        (3, 5, 7, 2),
    ]
    assert [c.previous_sha256 for c in made] == [None, bodies[0].sha256, bodies[1].sha256]
    assert {c.key_id for c in made} == {KEYS["a"].key_id}
    assert await verified(sealed) == []


async def test_where_nothing_is_new_none_is_made(sealed: Sealed) -> None:
    maker = sealed.checkpointer()
    await maker.once()
    await sealed.write("p")
    await maker.once()
    await maker.once()
    assert len(await said(sealed)) == 1


async def test_the_next_owner_goes_on_from_the_last_one_however_far_back_it_stands(
    sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three(sealed)
    await sealed.stream.publish([Outgoing(Topic.CHECKPOINTS, b"noise", b"{}") for _ in range(40)])
    monkeypatch.setattr(checkpointer, "LOOK_BACK", 2)
    await sealed.write("p")
    await sealed.checkpointer(epoch=2).once()
    assert [(c.sequence, c.first_offset, c.end_offset) for c in await said_of_ours(sealed)][-1] == (4, 7, 8)


async def said_of_ours(sealed: Sealed) -> list[Checkpoint]:
    values = [value for value in await sealed.checkpoints() if value != b"{}"]
    return [SignedCheckpoint.model_validate_json(value).checkpoint for value in values]


async def test_many_records_are_sealed_piece_by_piece(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpointer, "RECORDS_MAX", 3)
    await sealed.write(*"pqpqpqp")
    await sealed.checkpointer().once()
    assert [(c.first_offset, c.end_offset, c.records) for c in await said(sealed)] == [(0, 3, 3), (3, 6, 3), (6, 7, 1)]
    assert await verified(sealed) == []


async def test_partitions_have_lines_of_their_own(tmp_path: Path) -> None:
    sealed = Sealed(tmp_path, partitions=3)
    await sealed.write(*"abcdefgh")
    await sealed.checkpointer().once()
    await sealed.write(*"abcdefgh")
    await sealed.checkpointer(epoch=2).once()
    assert sorted((c.partition, c.sequence) for c in await said(sealed)) == [(p, s) for p in range(3) for s in (1, 2)]
    given = await seals(sealed.stream, A)
    for record in await sealed.all(Topic.AUDIT):
        given.take(record.partition, record.offset, record.value or b"")
    assert given.finish({n: end for n, (_, end) in (await sealed.stream.bounds(Topic.AUDIT)).items()}) == []
    assert [covered.after for covered in given.covered.values()] == [0, 0, 0]
    sealed.close()


async def test_repetitions_are_no_leaves_and_no_problem(sealed: Sealed) -> None:
    maker = sealed.checkpointer()
    await sealed.write("p", "q")
    await sealed.repeat("p", "q")
    await maker.once()
    await sealed.repeat("p")
    await maker.once()
    assert [c.records for c in await said(sealed)] == [2, 1]
    assert await verified(sealed) == []


async def test_two_owners_that_take_each_other_for_dead_confuse_nobody(sealed: Sealed) -> None:
    """A zombie's checkpoint tells the truth about a range that begins where the one it follows ends."""
    zombie = sealed.checkpointer(epoch=1)
    await sealed.write("p")
    await zombie.once()
    await sealed.write("q", "r")
    owner = sealed.checkpointer(epoch=2)
    await owner.once()
    await sealed.write("p")
    await zombie.once()
    await sealed.write("q")
    await owner.once()
    assert [(c.sequence, c.first_offset, c.end_offset) for c in await said(sealed)] == [
        (1, 0, 1),
        (2, 1, 3),
        (2, 1, 4),
        (3, 3, 5),
    ]
    assert await verified(sealed) == []
    await sealed.write("p")
    await sealed.checkpointer(epoch=3).once()
    last = (await said(sealed))[-1]
    assert (last.sequence, last.first_offset) == (4, 5)
    log = await sealed.log()
    assert judged(await seals(sealed.stream, A), [log[0], log[2], log[1], *log[3:]], len(log)) == [
        ("checkpoint_root", "0:1-2"),
        ("checkpoint_root", "0:1-3"),
    ]


async def test_the_same_checkpoint_twice_counts_once(sealed: Sealed) -> None:
    await three(sealed)
    found = [("", value) for value in await sealed.checkpoints()]
    judged_lines = Lines([*found, found[1]], A)
    assert (judged_lines.repeated, judged_lines.problems, len(judged_lines.made)) == (1, [], 3)


async def test_an_owner_that_was_stopped_while_it_published_looks_again(sealed: Sealed) -> None:
    """Whether it arrived is not known: the line is read from the topic, so that none follows one that is not there."""
    await sealed.write("p")
    maker = sealed.checkpointer()
    going = asyncio.create_task(maker.once())
    await asyncio.sleep(0)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    await sealed.write("q")
    await maker.once()
    assert await verified(sealed) == []
    assert (await said(sealed))[-1].end_offset == 2


async def test_a_log_that_ends_before_the_last_checkpoint_is_not_sealed_over(sealed: Sealed) -> None:
    await three(sealed)
    database = sealed.stream._database
    await database.write(lambda c: c.execute("UPDATE ends SET \"offset\" = 6 WHERE topic = 'audit'").rowcount)
    await sealed.checkpointer(epoch=2).once()
    assert len(await said(sealed)) == 3


# ------------------------------------------------------------------------------ keys


async def test_a_new_key_is_handed_over_to_by_the_old_one(sealed: Sealed) -> None:
    await sealed.write("p")
    await sealed.checkpointer(Signers(KEYS["a"])).once()
    rotated = sealed.checkpointer(Signers(KEYS["b"], KEYS["a"]), epoch=2)
    for _ in range(3):
        await sealed.write("p")
        await rotated.once()
    made = await said(sealed)
    assert [c.key_id for c in made] == [KEYS[n].key_id for n in "aabb"]
    assert [c.introduces for c in made] == [None, KEYS["b"].public_text, None, None]
    assert await verified(sealed) == []


async def test_without_a_hand_over_verify_takes_both_keys(sealed: Sealed) -> None:
    await sealed.write("p")
    await sealed.checkpointer(Signers(KEYS["a"])).once()
    await sealed.write("p")
    await sealed.checkpointer(Signers(KEYS["b"]), epoch=2).once()
    assert await verified(sealed, (KEYS["a"].public, KEYS["b"].public)) == []
    assert await verified(sealed) == [("checkpoint_key", "checkpoints 0:1")]


async def test_unsigned_ones_stand_where_no_key_is_known_or_where_a_signed_one_follows(sealed: Sealed) -> None:
    await sealed.write("p")
    await sealed.checkpointer(UNSIGNED).once()
    assert await verified(sealed, ()) == []
    assert await verified(sealed) == [("checkpoint_unsigned", "checkpoints 0:0")]
    await sealed.write("p")
    await sealed.checkpointer(SIGNED, epoch=2).once()
    assert await verified(sealed) == []


# ------------------------------------------------------------------------------ tampering


def one_more(log: Log) -> Log:
    """A record of p in between, all later ones of the partition moved up."""
    extra = packed(link(None, "p", 1, "forged"))
    return rechained([*log[:4], (4, extra), *((offset + 1, body) for offset, body in log[4:])])


def changed(log: Log) -> Log:
    """Another reason in record 3, and every hash after it made anew."""
    said = json.loads(log[3][1])
    said["context"]["what"] = "another reason"
    return rechained([*log[:3], (3, packed(said)), *log[4:]])


TAMPERED: dict[str, tuple[Callable[[Log], Log], list[tuple[str, str]]]] = {
    "a byte flipped": (
        lambda log: [*log[:3], (3, log[3][1].replace(b"because", b"becouse")), *log[4:]],
        [("checkpoint_root", "0:3-4")],
    ),
    "a record changed, later hashes made anew": (changed, [("checkpoint_root", "0:3-4"), ("checkpoint_root", "0:5-6")]),
    "a record dropped": (lambda log: [*log[:3], *log[4:]], [("checkpoint_root", "0:3-4")]),
    "a record dropped, later hashes made anew": (
        lambda log: rechained([*log[:3], *log[4:]]),
        [("checkpoint_root", "0:3-4"), ("checkpoint_root", "0:5-6")],
    ),
    "a record inserted, later hashes made anew": (
        one_more,
        [("checkpoint_root", "0:3-4"), ("checkpoint_root", "0:5-6")],
    ),
    "two records swapped": (
        lambda log: [*log[:3], (3, log[4][1]), (4, log[3][1]), *log[5:]],
        [("checkpoint_root", "0:3-4")],
    ),
    "two records swapped across ranges": (
        lambda log: [*log[:4], (4, log[5][1]), (5, log[4][1]), *log[6:]],
        [("checkpoint_root", "0:3-4"), ("checkpoint_root", "0:5-6")],
    ),
    "the tail cut": (lambda log: log[:6], [("tail_cut", "0:5-6")]),
    "more than a range of the tail cut": (lambda log: log[:4], [("tail_cut", "0:3-4"), ("tail_cut", "0:5-6")]),
    "everything gone": (lambda log: [], [("tail_cut", "0:0-2"), ("tail_cut", "0:3-4"), ("tail_cut", "0:5-6")]),
    "the head cut": (lambda log: log[3:], [("checkpoint_root", "0:0-2")]),
    "an aggregate removed whole": (
        lambda log: [(offset, body) for offset, body in log if b'"r"' not in body],
        [("checkpoint_root", "0:5-6")],
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_what_was_done_to_the_log_shows_with_its_position(sealed: Sealed, what: str) -> None:
    await three(sealed)
    tamper, expected = TAMPERED[what]
    log = tamper(await sealed.log())
    assert judged(await seals(sealed.stream, A), log, log[-1][0] + 1 if log else 0) == expected


def unsigned(value: bytes) -> bytes:
    return packed({"payload": json.loads(value)["payload"]})


def by(name: str, value: bytes) -> bytes:
    """The same words, signed with another key."""
    said = SignedCheckpoint.model_validate_json(value).checkpoint.model_copy(update={"key_id": KEYS[name].key_id})
    return signed(said, KEYS[name]).model_dump_json().encode()


def shortened(value: bytes) -> bytes:
    """An end of the log that suits somebody, under the old signature."""
    outer = json.loads(value)
    return packed(outer | {"payload": outer["payload"].replace('"end_offset":7', '"end_offset":6')})


FORGED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], list[tuple[str, str]]]] = {
    "one dropped from the middle": (lambda c: [c[0], c[2]], [("checkpoint_line", "checkpoints 1")]),
    "the first dropped": (lambda c: c[1:], [("checkpoint_line", "checkpoints 0")]),
    "the last by another key": (lambda c: [*c[:2], by("x", c[2])], [("checkpoint_key", "checkpoints 2")]),
    "one in the middle by another key": (
        lambda c: [c[0], by("x", c[1]), c[2]],
        [("checkpoint_key", "checkpoints 1"), ("checkpoint_line", "checkpoints 2")],
    ),
    "the last without its signature": (lambda c: [*c[:2], unsigned(c[2])], [("checkpoint_signature", "checkpoints 2")]),
    "the last shortened": (lambda c: [*c[:2], shortened(c[2])], [("checkpoint_signature", "checkpoints 2")]),
    "something else among them": (lambda c: [*c, b"[1]"], [("checkpoint_unreadable", "checkpoints 3")]),
}


@pytest.mark.parametrize("what", FORGED)
async def test_what_was_done_to_the_checkpoints_shows_with_its_position(sealed: Sealed, what: str) -> None:
    await three(sealed)
    forge, expected = FORGED[what]
    found = [(f"checkpoints {i}", value) for i, value in enumerate(forge(await sealed.checkpoints()))]
    assert judged(Seals(Lines(found, A), {0: 0}), await sealed.log(), 7) == expected


async def test_the_log_is_sealed_up_to_the_last_checkpoint_and_what_follows_is_told(sealed: Sealed) -> None:
    await three(sealed)
    await sealed.write("p", "q")
    given = await seals(sealed.stream, A)
    assert judged(given, await sealed.log(), 9) == []
    covered = given.covered[0]
    assert (covered.end, covered.after) == (7, 2)
    assert covered.at == json.loads(json.loads((await sealed.checkpoints())[-1])["payload"])["at"]


# ------------------------------------------------------------------------------ a head that was cut


@pytest.mark.parametrize(("begins", "expected"), [(3, []), (5, []), (7, []), (4, [("head_cut", "0:4")])])
async def test_a_head_may_be_cut_where_a_checkpoint_ends_and_nowhere_else(
    sealed: Sealed, begins: int, expected: list[tuple[str, str]]
) -> None:
    await three(sealed)
    found = [("", value) for value in await sealed.checkpoints()]
    assert judged(Seals(Lines(found, A), {0: begins}), (await sealed.log())[begins:], 7) == expected


async def test_after_a_cut_the_rest_is_still_held_against_its_checkpoints(sealed: Sealed) -> None:
    await three(sealed)
    found = [("", value) for value in await sealed.checkpoints()]
    rest = (await sealed.log())[3:]
    assert judged(Seals(Lines(found, A), {0: 3}), [rest[0], *rest[2:]], 7) == [("checkpoint_root", "0:3-4")]
