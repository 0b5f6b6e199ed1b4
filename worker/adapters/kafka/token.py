"""The token for OAUTHBEARER: read from a file or printed by a command, anew for each connection.

Whatever goes wrong with it is an error of the client's own, which then counts as a connection that failed, and is tried
again: a token may be rotated at any time.  Knows nothing of what is in a token.
"""

import asyncio
import shlex
from pathlib import Path
from typing import Any

from aiokafka import conn
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed

from worker.errors import Misconfigured
from worker.settings import KafkaSettings

TOKEN_TIMEOUT_SECONDS = 10.0


class Bearer(conn.OAuthAuthenticator):  # type: ignore[misc]  # the library ships no types
    """Notices that a token is refused: a broker says why and waits, which aiokafka as it comes takes for a yes.

    From then on each request on that connection would get an answer that is none.
    """

    async def step(self, payload: bytes | None) -> Any:
        if self._token_sent and payload:
            raise SaslAuthenticationFailed(payload.decode(errors="replace"))
        return await super().step(payload)


conn.OAuthAuthenticator = Bearer


class Token(AbstractTokenProvider):  # type: ignore[misc]  # the library ships no types
    """Gives the token for OAUTHBEARER, fetched anew for each connection, so that a rotated one is taken up."""

    def __init__(self, settings: KafkaSettings) -> None:
        if bool(settings.token_file) == bool(settings.token_command):
            raise Misconfigured("WORKER_KAFKA__TOKEN_FILE, WORKER_KAFKA__TOKEN_COMMAND: OAUTHBEARER needs one of them")
        self._file, self._command = settings.token_file, shlex.split(settings.token_command)

    async def token(self) -> str:
        """Raises an error of the client's own, which then counts as a connection that failed, and tries again.

        What a command says on stderr is not repeated, it may hold a secret.
        """
        try:
            text = await self._printed() if self._command else self._read()
        except (OSError, ValueError, TimeoutError) as error:
            raise KafkaConnectionError(f"no token: {type(error).__name__}") from error
        return text.strip()

    def _read(self) -> str:
        """A small local file: it takes microseconds, so it happens where it is called."""
        return Path(self._file).read_text("ascii")

    async def _printed(self) -> str:
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *self._command, stdin=quiet, stdout=asyncio.subprocess.PIPE, stderr=quiet
        )
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT_SECONDS):
                printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise OSError(process.returncode, "the command for the token failed")
        return printed.decode("ascii")
