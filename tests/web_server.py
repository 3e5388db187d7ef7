"""A server of one file on the loopback device, which plays the web."""

import contextlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


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
