"""What S3 does, through its client library: each body holds over a real server and over the simulator's model.

The rows S1 to S5 of the facts, and the forms of answers and errors that the adapter goes by.  Knows the library's
operations, not who answers.
"""

import asyncio
import hashlib
from typing import Any, Protocol

import pytest
from aiohttp import ClientPayloadError
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

NO_ETAG = '"00000000000000000000000000000000"'


class Rig(Protocol):
    """A bucket, a client of it, and what can be done to the server, or on the way to it."""

    client: Any
    """As `open_client` gives it, with a read time-out of two seconds at most."""
    bucket: str

    async def another(self) -> Any:
        """A second client."""

    def lose_replies(self) -> None:
        """From now on requests are carried out, and the connection breaks before anything of the answer comes."""

    def cut_bodies(self) -> None:
        """From now on the answer to a GET breaks off in the middle of its body."""

    def hang(self) -> None:
        """From now on nothing is answered, although connections stand."""

    def go_away(self) -> None:
        """From now on connections are refused."""

    def throttle(self) -> None:
        """From now on every request is answered with 503, and with Retry-After."""

    def undecided(self) -> None:
        """From now on a conditional PUT is answered with 409."""

    def recover(self) -> None:
        """All of that is over."""


async def put(rig: Rig, key: str, body: bytes, **condition: str) -> str:
    """-> ETag."""
    answer = await rig.client.put_object(Bucket=rig.bucket, Key=key, Body=body, **condition)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    return str(answer["ETag"])


async def get(rig: Rig, key: str, **condition: str) -> tuple[bytes, str]:
    """-> body and ETag."""
    answer = await rig.client.get_object(Bucket=rig.bucket, Key=key, **condition)
    async with answer["Body"] as stream:
        return await stream.read(), str(answer["ETag"])


async def keys(rig: Rig, **options: Any) -> tuple[list[str], bool]:
    """-> keys of one page, and whether there are more."""
    page = await rig.client.list_objects_v2(Bucket=rig.bucket, **options)
    return [entry["Key"] for entry in page.get("Contents", ())], page["IsTruncated"]


def told(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    """Status and code."""
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


class S3Facts:
    """Needs a fixture `rig`."""

    # ------------------------------------------------------------------------------ S1

    async def test_s1_a_put_whose_reply_is_lost_was_applied_and_sent_once(self, rig: Rig) -> None:
        """Sent a second time it would answer 412 for its own success."""
        first = await put(rig, "key", b"first")
        rig.lose_replies()
        with pytest.raises(ConnectionClosedError):
            await put(rig, "key", b"second", IfMatch=first)
        rig.recover()
        assert (await get(rig, "key"))[0] == b"second"

    async def test_s1_whoever_sends_it_again_is_told_that_another_has_won(self, rig: Rig) -> None:
        first = await put(rig, "key", b"first")
        rig.lose_replies()
        with pytest.raises(ConnectionClosedError):
            await put(rig, "key", b"second", IfMatch=first)
        rig.recover()
        with pytest.raises(ClientError) as error:
            await put(rig, "key", b"second", IfMatch=first)
        assert told(error) == (412, "PreconditionFailed")

    async def test_s1_a_delete_whose_reply_is_lost_was_applied(self, rig: Rig) -> None:
        await put(rig, "key", b"body")
        rig.lose_replies()
        with pytest.raises(ConnectionClosedError):
            await rig.client.delete_objects(Bucket=rig.bucket, Delete={"Objects": [{"Key": "key"}], "Quiet": True})
        rig.recover()
        assert await keys(rig) == ([], False)

    async def test_s1_no_answer_and_no_connection_have_errors_of_their_own(self, rig: Rig) -> None:
        rig.hang()
        with pytest.raises(ReadTimeoutError):
            await put(rig, "key", b"body")
        rig.recover()
        rig.go_away()
        with pytest.raises(EndpointConnectionError):
            await put(rig, "key", b"body")

    async def test_s1_a_body_that_breaks_off_is_an_error_of_http(self, rig: Rig) -> None:
        await put(rig, "key", b"0123456789" * 100)
        rig.cut_bodies()
        with pytest.raises(ClientPayloadError):
            await get(rig, "key")

    # ------------------------------------------------------------------------------ S2

    async def test_s2_409_decides_for_nobody_and_writes_nothing(self, rig: Rig) -> None:
        first = await put(rig, "key", b"first")
        rig.undecided()
        with pytest.raises(ClientError) as error:
            await put(rig, "key", b"second", IfMatch=first)
        assert told(error) == (409, "ConditionalRequestConflict")
        rig.recover()
        assert await get(rig, "key") == (b"first", first)
        await put(rig, "key", b"second", IfMatch=first)

    # ------------------------------------------------------------------------------ S3

    async def test_s3_an_etag_is_a_hash_of_the_bytes_so_a_b_a_repeats_it(self, rig: Rig) -> None:
        first = await put(rig, "key", b"A")
        second = await put(rig, "key", b"B", IfMatch=first)
        assert await put(rig, "key", b"A", IfMatch=second) == first
        assert first == f'"{hashlib.md5(b"A", usedforsecurity=False).hexdigest()}"'
        await put(rig, "key", b"C", IfMatch=first)

    # ------------------------------------------------------------------------------ S4

    async def test_s4_a_put_honours_its_conditions(self, rig: Rig) -> None:
        first = await put(rig, "key", b"first", IfNoneMatch="*")
        for condition in ({"IfNoneMatch": "*"}, {"IfMatch": NO_ETAG}):
            with pytest.raises(ClientError) as error:
                await put(rig, "key", b"second", **condition)
            assert told(error) == (412, "PreconditionFailed")
        assert await get(rig, "key") == (b"first", first)

    async def test_s4_what_is_not_there_is_not_replaced(self, rig: Rig) -> None:
        with pytest.raises(ClientError) as error:
            await put(rig, "key", b"body", IfMatch=NO_ETAG)
        assert told(error) == (404, "NoSuchKey")
        assert await keys(rig) == ([], False)

    async def test_s4_of_many_conditional_puts_at_once_one_wins(self, rig: Rig) -> None:
        etag, other = await put(rig, "key", b"before"), await rig.another()
        clients = [rig.client, other]
        tries = [
            clients[i % 2].put_object(Bucket=rig.bucket, Key="key", Body=b"%d" % i, IfMatch=etag) for i in range(20)
        ]
        results = await asyncio.gather(*tries, return_exceptions=True)
        [winner] = [i for i, result in enumerate(results) if isinstance(result, dict)]
        assert (await get(rig, "key"))[0] == b"%d" % winner

    # ------------------------------------------------------------------------------ S5

    async def test_s5_what_is_read_during_a_replace_was_written_and_a_stale_etag_only_loses(self, rig: Rig) -> None:
        """A body and the ETag beside it need not belong together; compare-and-set on it is safe all the same."""
        etag = await put(rig, "key", b"0")
        other = await rig.another()
        replaced = asyncio.Event()

        async def replace() -> None:
            nonlocal etag
            for number in range(1, 30):
                answer = await other.put_object(Bucket=rig.bucket, Key="key", Body=b"%d" % number, IfMatch=etag)
                etag = answer["ETag"]
            replaced.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(replace())
            seen = [await get(rig, "key")]
            while not replaced.is_set():
                seen.append(await get(rig, "key"))
        known = {f'"{hashlib.md5(b"%d" % n, usedforsecurity=False).hexdigest()}"' for n in range(30)}
        assert {read for _, read in seen} <= known
        assert {int(body) for body, _ in seen} <= set(range(30))
        with pytest.raises(ClientError) as error:
            await put(rig, "key", b"stale", IfMatch=seen[0][1])
        assert told(error) == (412, "PreconditionFailed")

    # ------------------------------------------------------------------------------ answers

    async def test_an_object_that_is_not_there_and_one_that_did_not_change(self, rig: Rig) -> None:
        with pytest.raises(ClientError) as missing:
            await get(rig, "key")
        assert told(missing) == (404, "NoSuchKey")
        etag = await put(rig, "key", b"body")
        with pytest.raises(ClientError) as unchanged:
            await get(rig, "key", IfNoneMatch=etag)
        assert told(unchanged)[0] == 304
        assert await get(rig, "key", IfNoneMatch=NO_ETAG) == (b"body", etag)

    async def test_a_throttled_request_says_when_to_come_back(self, rig: Rig) -> None:
        rig.throttle()
        with pytest.raises(ClientError) as error:
            await put(rig, "key", b"body")
        assert told(error) == (503, "SlowDown")
        assert int(error.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"]) > 0
        rig.recover()
        assert await keys(rig) == ([], False)

    async def test_a_list_comes_in_pages_and_an_empty_one_has_no_contents(self, rig: Rig) -> None:
        for key in ("a/2", "a/1", "b/1", "a/3"):
            await put(rig, key, b"")
        assert await keys(rig, Prefix="a/", MaxKeys=2) == (["a/1", "a/2"], True)
        assert await keys(rig, Prefix="a/", StartAfter="a/2", MaxKeys=2) == (["a/3"], False)
        page = await rig.client.list_objects_v2(Bucket=rig.bucket, Prefix="c/")
        assert "Contents" not in page
        assert page["IsTruncated"] is False

    async def test_what_is_not_there_is_deleted_with_success(self, rig: Rig) -> None:
        await put(rig, "key", b"body")
        answer = await rig.client.delete_objects(
            Bucket=rig.bucket, Delete={"Objects": [{"Key": "key"}, {"Key": "never"}], "Quiet": True}
        )
        assert answer.get("Errors", []) == []
        answer = await rig.client.delete_object(Bucket=rig.bucket, Key="key")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
