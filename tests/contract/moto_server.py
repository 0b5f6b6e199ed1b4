"""moto's S3 in a thread of this process: quick, without authentication, forgotten with the process.

One request at a time: moto checks a condition and then writes, so two at once could both win (facts, S4).
"""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


@contextmanager
def moto_server() -> Iterator[str]:
    """-> its URL, until it is left."""
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=False)
    server.log = lambda *_: None  # type: ignore[method-assign]  # a line per request on stderr says nothing here
    thread = threading.Thread(target=server.serve_forever, name="moto", daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def create_bucket(url: str, bucket: str) -> None:
    """A plain request will do, and is quicker than a client of S3."""
    with closing(HTTPConnection(url.removeprefix("http://"))) as connection:
        connection.request("PUT", f"/{bucket}")
        assert connection.getresponse().status == 200
