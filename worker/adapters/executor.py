"""Turn executors over HTTP: `POST {url}/v1/turns/{turn_id}/cancel`, as schemas/executor.py publishes it.

Zones are known by the name that the settings give them.  Nothing is repeated here (the runtime does that).
"""

from collections.abc import Callable, Mapping
from urllib.parse import quote

from aiohttp import ClientSession
from pydantic import ValidationError

from schemas.executor import ANSWER_BYTES_MAX, TurnCancel
from worker.adapters.http import Answer, Endpoint, open_session, post_json
from worker.errors import Refused, Unavailable
from worker.ports import TurnAnswer

MARGIN_SECONDS = 2.0
"""An executor may wait for the end of the turn as long as it was told; its answer gets this much more."""
ANSWERED = {
    200: ("cancelled", "finished", "not_running", "cancelling"),
    404: ("not_running",),  # no such turn here
    409: ("not_running",),  # another turn is running: the named one is not
}
"""What an executor may say with which HTTP status.  A bare 404 says nothing of a turn: any proxy answers that."""


class Zone(Endpoint):
    """One executor group: the base URL of its protocol, its credential."""


class HttpExecutor:
    """`TurnExecutor` over HTTP.  Calls may run at once."""

    def __init__(self, zones: Mapping[str, Zone], *, open_session: Callable[[], ClientSession] = open_session) -> None:
        self._zones, self._open_session = dict(zones), open_session
        self._session: ClientSession | None = None

    async def start(self) -> None:
        if self._session is None:
            self._session = self._open_session()

    async def stop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def cancel(self, zone: str, session_id: str, turn_id: str, timeout_seconds: float) -> TurnAnswer:
        """Raises Refused (zone not in the settings, 401, 403), Unavailable."""
        endpoint = self._zones.get(zone)
        if endpoint is None:
            raise Refused(f"zone {zone!r} is not in the settings")
        if self._session is None:
            raise Unavailable(f"zone {zone!r} cannot be asked: the client is not started")
        answer = await post_json(
            self._session,
            f"zone {zone!r}",
            endpoint,
            f"{endpoint.url.rstrip('/')}/v1/turns/{quote(turn_id, safe='')}/cancel",
            {"session_id": session_id, "timeout_seconds": timeout_seconds},
            timeout_seconds=timeout_seconds + MARGIN_SECONDS,
            answer_bytes_max=ANSWER_BYTES_MAX,
        )
        return _understood(zone, turn_id, answer)


def _understood(zone: str, turn_id: str, answer: Answer) -> TurnAnswer:
    try:
        said = TurnCancel.model_validate_json(answer.body)
    except ValidationError:
        # Not chained: pydantic's error quotes the answer.
        raise Unavailable(f"zone {zone!r} answered HTTP {answer.status} with what is no answer") from None
    if said.turn_id != turn_id or said.status not in ANSWERED.get(answer.status, ()):
        raise Unavailable(f"zone {zone!r} answered about something else (HTTP {answer.status})")
    return TurnAnswer(said.status, said.outcome)
