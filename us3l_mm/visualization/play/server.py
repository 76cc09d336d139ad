"""Serve the page of a :class:`Player` to the browser of this machine, and to nobody else.

The server listens on 127.0.0.1. Its address has a random token, which other users of the machine do not know; a request
by another host name is refused, so that a page of the web cannot reach it by a name of its own. No part of a request is
taken for the name of a file.
"""

import contextlib
import hmac
import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from us3l_mm.datasets.image_bytes import decode_image

from .player import Player

LARGEST = 2**24  # bytes of an uploaded image
_DROPPED = 4 * LARGEST  # bytes of a refused one that are read, so that the browser gets to the answer
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class RefusedError(Exception):
    """A request that is not answered; the status of HTTP comes first, then the reason."""


class PlayServer(ThreadingHTTPServer):
    """Serves the page; set ``player``, call ``serve_forever`` and open ``url``.

    Attributes:
        player (Player): What answers. It takes long to make, and the port is ours before.

    Args:
        port (int): Port of 127.0.0.1. Defaults to 0: a free one.

    Raises:
        OSError: If the port is taken.
    """

    daemon_threads = True
    player: Player

    def __init__(self, port: int = 0) -> None:
        super().__init__(('127.0.0.1', port), _Handler)
        self.token = secrets.token_urlsafe(16)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f'http://127.0.0.1:{self.server_port}/{self.token}/'


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: PlayServer
    timeout = 30  # seconds without a byte
    server_version, sys_version = 'us3l', ''

    def handle(self) -> None:
        """Answer, unless the page has gone on to another width and waits no more."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Answer by the page, a picture, or what the network makes of a sample."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Answer what the network makes of an uploaded image."""
        self._answer(self._post)

    def log_message(self, *args: Any) -> None:
        """Say nothing: a line a request would hide the address."""

    def _answer(self, make: Any) -> None:
        length = self.headers.get('Content-Length', '')
        self._unread = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else None
        try:
            status, (kind, content) = 200, make(*self._route())
        except RefusedError as refusal:
            status, (kind, content) = refusal.args[0], _json(dict(error=refusal.args[1]))
        except Exception as error:  # of the network or of a damaged data set: told, and the server goes on
            status, (kind, content) = 500, _json(dict(error=f'{type(error).__name__}: {error}'))
        self._drop_body()
        self.send_response(status)
        for name, value in (
            ('Content-Type', kind),
            ('Content-Length', str(len(content))),
            ('Content-Security-Policy', _POLICY),
            ('X-Content-Type-Options', 'nosniff'),
            ('Referrer-Policy', 'no-referrer'),
            ('Cache-Control', 'no-store'),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _drop_body(self) -> None:
        left = min(self._unread or 0, _DROPPED)
        while left and (part := self.rfile.read(min(left, 2**16))):
            left -= len(part)

    def _route(self) -> tuple[list[str], dict[str, str]]:
        """Split the address into what comes after the token, and the query.

        Raises:
            RefusedError: If host or token are not ours.
        """
        port = self.server.server_port
        if self.headers.get('Host') not in (f'127.0.0.1:{port}', f'localhost:{port}'):
            raise RefusedError(403, f'this page is at 127.0.0.1:{port} only')
        address = urlsplit(self.path)
        _, token, *parts = address.path.split('/')
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise RefusedError(403, 'the address lacks the token that the command has printed')
        return parts, {name: values[-1] for name, values in parse_qs(address.query).items()}

    def _get(self, parts: list[str], query: dict[str, str]) -> tuple[str, bytes]:
        player = self.server.player
        if parts == ['']:
            return 'text/html; charset=utf-8', files(__package__).joinpath('page.html').read_bytes()
        if parts == ['state']:
            counts = {name: len(images) for name, images in player.images.items()}
            return _json(dict(widths=player.rows, neighbours=player.neighbours, largest=LARGEST, **counts))
        if parts == ['look']:
            return _json(player.sample(self._index('samples', query.get('sample')), self._width(query)))
        if len(parts) == 3 and parts[0] == 'image' and parts[1] in player.images:
            return 'image/png', player.picture(parts[1], self._index(parts[1], parts[2]))
        raise RefusedError(404, 'nothing is here')

    def _post(self, parts: list[str], query: dict[str, str]) -> tuple[str, bytes]:
        if parts != ['look']:
            raise RefusedError(404, 'nothing is here')
        width, length = self._width(query), self._unread
        if length is None:
            raise RefusedError(411, 'the length of the image is missing')
        if length > LARGEST:
            raise RefusedError(413, f'the image has {length:,} bytes, more than {LARGEST:,}; make it smaller')
        self._unread = 0
        try:
            pixels = decode_image(self.rfile.read(length))
        except Exception as error:  # decoders raise errors of many kinds
            raise RefusedError(400, f'this cannot be read as an image: {error}') from error
        return _json(self.server.player.upload(pixels, width))

    def _width(self, query: dict[str, str]) -> float:
        found = [row['width'] for row in self.server.player.rows if f'{row["width"]:g}' == query.get('width')]
        if not found:
            raise RefusedError(400, f'no width {query.get("width")!r} is calibrated')
        return found[0]

    def _index(self, split: str, text: str | None) -> int:
        count = len(self.server.player.images[split])
        if not (text and text.isascii() and text.isdigit() and len(text) < 10 and int(text) < count):
            raise RefusedError(404, f'no image {text!r}: they are numbered from 0 to {count - 1}')
        return int(text)


def _json(content: dict[str, Any]) -> tuple[str, bytes]:
    return 'application/json', json.dumps(content).encode()
