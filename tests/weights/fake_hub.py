"""A small Hugging Face hub on 127.0.0.1 for tests: one repository, broken transfers and altered files at will.

It is a forward proxy for itself too: requests with a whole URL in their first line are answered as if it were its own.
"""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

REPO, COMMIT = "someone/something", "c0ffee" * 6 + "c0ff"
LARGE = ".safetensors"
"""Files with this suffix are in large file storage, the others in git."""


class FakeHub:
    def __init__(self, files):
        self.files = files
        """Content by name."""
        self.cuts = {}
        """Answers by name of file, used up one by one: a number of bytes to break off after, or an HTTP status."""
        self.altered = set()
        """Names of files that come with one byte changed."""
        self.answers = {"main": COMMIT}
        """Commits by revision that it has."""
        self.delay_s = 0.0
        """Time before a file begins to come."""
        self.requests = []
        """Path and Range of each."""
        self.proxied = []
        """Hosts that were asked for through it."""
        self.url = ""

    def listing(self, revision):
        sha = self.answers.get(revision, COMMIT)
        return {"id": REPO, "sha": sha, "siblings": [self._sibling(*item) for item in self.files.items()]}

    @staticmethod
    def _sibling(name, content):
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        sibling = {"rfilename": name, "size": len(content), "blobId": git}
        if name.endswith(LARGE):
            sum_ = hashlib.sha256(content).hexdigest()
            sibling["lfs"] = {"sha256": sum_, "size": len(content), "pointerSize": 134}
        return sibling

    def tree(self):
        """The files as the hub lists a folder."""
        return [
            {"type": "file", "path": name, "size": sibling["size"], "oid": sibling["blobId"]}
            | ({"lfs": {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": 134}} if lfs else {})
            for name, content in self.files.items()
            for sibling in [self._sibling(name, content)]
            for lfs in [sibling.get("lfs")]
        ]

    def head(self, name, revision):
        """The headers that say what a file is."""
        sibling = self._sibling(name, self.files[name])
        etag = sibling["lfs"]["sha256"] if "lfs" in sibling else sibling["blobId"]
        return {"X-Repo-Commit": self.answers.get(revision, revision), "ETag": f'"{etag}"'}

    def ranges(self, name):
        """The Range headers of all requests for a file, None where there was none."""
        return [wanted for path, wanted in self.requests if path.endswith(f"/{name}")]


def _handler(hub):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlsplit(self.path)
            if url.netloc:
                hub.proxied.append(url.netloc)
            hub.requests.append((url.path, self.headers.get("Range")))
            repo, _, rest = url.path.removeprefix("/api/models").removeprefix("/").partition(f"{REPO}/")
            if repo or not rest:
                return self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
            kind, revision, *name = rest.split("/", 2)
            if revision not in {*hub.answers, *hub.answers.values()}:
                return self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            if kind == "revision":
                return self._json(hub.listing(revision))
            if kind == "tree":
                return self._json(hub.tree())
            return self._file(name[0])

        def do_HEAD(self):
            path = urlsplit(self.path).path.removeprefix(f"/{REPO}/resolve/")
            revision, _, name = path.partition("/")
            if name not in hub.files:
                return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            headers = hub.head(name, revision)
            return self._answer(200, b"", headers | {"Content-Length": len(hub.files[name])})

        def _json(self, table):
            return self._answer(200, json.dumps(table).encode(), {"Content-Type": "application/json"})

        def _file(self, name):
            time.sleep(hub.delay_s)
            content, begin = hub.files[name], 0
            if name in hub.altered:
                content = bytes([content[0] ^ 1]) + content[1:]
            if wanted := self.headers.get("Range"):
                begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            cut = hub.cuts[name].pop(0) if hub.cuts.get(name) else None
            if cut is not None and 400 <= cut < 600:
                return self._answer(cut, b"", {})
            extra = {"Content-Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if begin else {}
            return self._answer(206 if begin else 200, content[begin:], extra, cut)

        def _answer(self, status, body, headers, cut=None):
            self.send_response(status)
            for key, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(key, str(value))
            self.end_headers()
            self.wfile.write(body[:cut])
            self.close_connection = cut is not None

        def log_message(self, *arguments):
            pass

    return Handler


@contextmanager
def fake_hub(files):
    """Serve files, content by name, until the end of the context."""
    hub = FakeHub(files)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
