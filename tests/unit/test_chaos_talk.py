"""Operations on a wire are told apart however the bytes are cut: Kafka's frames, HTTP's requests."""

from collections.abc import Iterator

import pytest

from tests.chaos.talk import Asked, HttpTalk, KafkaTalk

PRODUCE, END_TXN, METADATA = 0, 26, 3
FRAMES = ((PRODUCE, "worker-1", 300), (END_TXN, "worker-1", 0), (METADATA, "tier", 7), (END_TXN, "", 1))
ASKED = [Asked("Produce", "worker-1"), Asked("EndTxn", "worker-1"), Asked("other", "tier"), Asked("EndTxn", "")]


def request(key: int, client: str, body_bytes: int) -> bytes:
    head = key.to_bytes(2, "big") + bytes(2) + bytes(4) + len(client).to_bytes(2, "big") + client.encode()
    return (len(head) + body_bytes).to_bytes(4, "big") + head + bytes(body_bytes)


def answer(body_bytes: int) -> bytes:
    return (4 + body_bytes).to_bytes(4, "big") + bytes(4 + body_bytes)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    yield from (data[i : i + size] for i in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 14, 50, 10_000])
def test_kafka_requests_and_answers_are_known_however_they_are_cut(size: int) -> None:
    talk = KafkaTalk()
    asked = [
        each for piece in pieces(b"".join(request(*frame) for frame in FRAMES), size) for each in talk.asked(piece)
    ]
    assert asked == ASKED
    answers = b"".join(answer(count) for count in (20, 0, 1000, 3))
    answered = [each.asked for piece in pieces(answers, size) for each in talk.answered(piece)]
    assert answered == ASKED


def test_half_of_a_kafka_answer_ends_within_that_answer() -> None:
    talk = KafkaTalk()
    talk.asked(b"".join(request(*frame) for frame in FRAMES[:2]))
    first, second = talk.answered(answer(20) + answer(50))
    assert 0 < first.middle < len(answer(20)) < second.middle < len(answer(20) + answer(50))


def test_http_requests_alternate_with_answers_and_a_body_is_no_request() -> None:
    talk = HttpTalk("worker-1")
    assert talk.asked(b"PUT /bucket/key HTTP/1.1\r\n\r\n") == [Asked("PUT", "worker-1")]
    assert talk.asked(b"GET this is a body") == []
    [answered] = talk.answered(b"HTTP/1.1 200 OK\r\n")
    assert answered.asked == Asked("PUT", "worker-1")
    assert talk.answered(b"the rest of it") == []
    assert talk.asked(b"GET /pods?watch=true HTTP/1.1\r\n") == [Asked("watch", "worker-1")]
