"""A server of one file on the loopback device, which plays the web."""

import contextlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.loopback import serving


class Web:
    """Answers every path with ``content``, or as it is told."""

    def __init__(self, content):
        self.content = content
        self.asked = []
        """The range, token and path of each request."""
        self.cut_after = None
        """The second answer, the first being the look at the file, ends there."""
        self.redirect = ""
        self.status = 200
        self.has_length = True

    @contextmanager
    def serving(self):
        handler = type("Handler", (_Handler,), {"web": self})
        with serving(handler) as self.address:
            yield self


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def log_message(self, *_):
        pass

    def do_GET(self):
        web = self.web
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        web.asked.append((start, self.headers.get("Authorization"), self.path))
        if web.redirect:
            self.send_response(302)
            self.send_header("Location", web.redirect)
            web.redirect = ""
            self.end_headers()
            return
        rest = web.content[start:]
        self.send_response(206 if start and web.status == 200 else web.status)
        if web.has_length:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if web.cut_after is not None and len(web.asked) == 2:
            rest = rest[: web.cut_after]
        with contextlib.suppress(OSError):  # the client has seen enough
            self.wfile.write(rest)
