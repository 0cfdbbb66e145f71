"""What stands at the far end of a sink: answers as Splunk's HEC, a search engine's bulk interface and a web hook do.

Splunk: https://docs.splunk.com/Documentation/Splunk/latest/Data/HECRESTendpoints, indexer acknowledgement included.
Elasticsearch and OpenSearch: https://www.elastic.co/docs/api/doc/elasticsearch/operation/operation-bulk, with documents
under their ids and external versions as a real index keeps them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

BUSY = {
    # Splunk's words, and a search engine's.
    "text": "Server is busy",
    "code": 9,
    "error": {"type": "cluster_block_exception", "reason": "blocked by: [no master]", "root_cause": []},
    "status": 503,
}


class FarEnd:
    """A server on a free port, and what has come to it.

    Attributes
    ----------
    events
        Every document, event or body that was accepted, in order.
    wrapped
        Splunk's events with what it is told of them beside.
    kept
        Documents of the search engine by id.
    authorizations
        Values of that header, of requests that brought documents.
    rejections
        So many of the next requests that bring documents are answered with 503.
    """

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.wrapped: list[Any] = []
        self.kept: dict[str, Any] = {}
        self.authorizations: set[str | None] = set()
        self.rejections = 0
        self._versions: dict[str, int] = {}
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it answers, without a path."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, authorization: str | None, body: bytes) -> tuple[int, Any]:
        """Status and JSON of the answer to a request."""
        with self._lock:
            if path == "/services/collector/ack":
                return 200, {"acks": {str(ack): True for ack in json.loads(body)["acks"]}}
            take = {"/services/collector/event": self._splunk, "/hooks/stillwatch": self._hook, "/_bulk": self._bulk}
            if path not in take:
                return _of_no_document(method, path)
            self.authorizations.add(authorization)
            if self.rejections > 0:
                self.rejections -= 1
                return 503, BUSY
            return 200, take[path](body)

    def _hook(self, body: bytes) -> Any:
        self.events.append(json.loads(body))
        return {}

    def _splunk(self, body: bytes) -> Any:
        wrapped = list(_objects(body.decode()))
        self.wrapped += wrapped
        self.events += [each["event"] for each in wrapped]
        return {"text": "Success", "code": 0, "ackId": len(self.events)}

    def _bulk(self, body: bytes) -> Any:
        lines = [json.loads(line) for line in body.splitlines()]
        items = [self._index(action["index"], document) for action, document in zip(*[iter(lines)] * 2, strict=True)]
        return {"took": 1, "errors": any("error" in item["index"] for item in items), "items": items}

    def _index(self, action: Any, document: Any) -> Any:
        """Index one document, unless an external version says that it has come already."""
        uid, version = action["_id"], action.get("version", 0)
        about = {"_index": action["_index"], "_id": uid}
        if action.get("version_type") == "external" and version <= self._versions.get(uid, -1):
            reason = f"[{uid}]: version conflict, current version [{self._versions[uid]}] is higher or equal"
            error = {"type": "version_conflict_engine_exception", "reason": reason}
            return {"index": about | {"status": 409, "error": error}}
        self._versions[uid] = version
        self.kept[uid] = document
        self.events.append(document)
        done = {"_version": version, "result": "created", "status": 201, "_seq_no": 0, "_primary_term": 1}
        return {"index": about | done | {"_shards": {"total": 1, "successful": 1, "failed": 0}}}


def _of_no_document(method: str, path: str) -> tuple[int, Any]:
    """Answers to what connectors ask before they send."""
    if path.startswith("/services/collector"):
        return 200, {"text": "HEC is healthy", "code": 17}
    if path == "/":
        number = {"number": "8.15.0", "build_flavor": "default", "lucene_version": "9.11.1", "build_snapshot": False}
        compatible = {"minimum_wire_compatibility_version": "7.17.0", "minimum_index_compatibility_version": "7.0.0"}
        told = number | compatible | {"build_type": "tar", "build_hash": "0", "build_date": "2024-08-05T10:05:34Z"}
        names = {"name": "node", "cluster_name": "test", "cluster_uuid": "test", "tagline": "You Know, for Search"}
        return 200, names | {"version": told}
    if method == "PUT":
        return 200, {"acknowledged": True, "shards_acknowledged": True, "index": path.strip("/")}
    return (404, None) if method == "HEAD" else (200, {})


def _objects(text: str) -> Iterator[Any]:
    """JSON objects one behind the other, as Splunk takes them."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        found, at = decoder.raw_decode(text, at)
        yield found
        while at < len(text) and text[at].isspace():
            at += 1


def _handler(far_end: FarEnd) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            status, answer = far_end.answer(self.command, path, self.headers.get("Authorization"), body)
            content = b"" if self.command == "HEAD" else json.dumps(answer).encode()
            self.send_response(status)
            # Elastic's clients send their own type and want it back, and ask for the product's name.
            accepted = self.headers.get("Accept", "")
            self.send_header("Content-Type", accepted if "elasticsearch" in accepted else "application/json")
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
