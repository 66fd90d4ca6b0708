"""The few requests that a push makes of Elasticsearch and OpenSearch, answered in the shapes that their manuals show.

No server of theirs: what it refuses is what those manuals do not have.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_one(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        name, _, rest = urlsplit(self.path).path.strip("/").partition("/")
        status, body = self.answer(name, rest, raw)
        out = b"" if self.command == "HEAD" else json.dumps(body).encode()
        kind = "application/json"
        if "elasticsearch" in self.headers.get("Accept", ""):
            kind = self.headers["Accept"].split(",")[0]
        self.send_response(status)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_POST = do_PUT = do_HEAD = handle_one

    def answer(self, name, rest, raw):
        indices = self.server.indices
        if name == "_bulk":
            return 200, {"errors": False, "items": list(bulk(indices, raw.splitlines()))}
        if name not in indices and not (self.command == "PUT" and not rest):
            return 404, {"error": {"type": "index_not_found_exception", "reason": f"no such index [{name}]"}}
        body = json.loads(raw) if raw else {}
        if self.command == "PUT":
            indices[name] = {"mappings": body["mappings"], "documents": {}}
        elif rest == "_mapping":
            return 200, {name: {"mappings": indices[name]["mappings"]}}
        elif rest == "_search":
            return 200, {"hits": {"hits": search(indices[name]["documents"], body)}}
        return 200, {"acknowledged": True}


def bulk(indices, lines):
    lines = iter(lines)
    for line in lines:
        ((operation, where),) = json.loads(line).items()
        documents = indices[where["_index"]]["documents"]
        if operation == "index":
            documents[where["_id"]] = json.loads(next(lines))
        else:
            documents.pop(where["_id"])
        yield {operation: {"_id": where["_id"], "status": 200}}


def search(documents, body):
    if "sort" in body:
        assert body["sort"] == [{"doc_id": "asc"}]
        after = body.get("search_after", [""])[0]
        found = sorted((one for one in documents.values() if one["doc_id"] > after), key=lambda one: one["doc_id"])
        scored = [(one, None) for one in found]
    else:
        if "knn" in body:
            assert body["knn"]["field"] == "vector"
            assert body["knn"]["num_candidates"] >= body["knn"]["k"]
            vector = body["knn"]["query_vector"]
        else:
            script = body["query"]["script_score"]["script"]
            assert (script["source"], script["lang"]) == ("knn_score", "knn")
            assert (script["params"]["field"], script["params"]["space_type"]) == ("vector", "innerproduct")
            vector = script["params"]["query_value"]
        products = [(one, sum(a * b for a, b in zip(one["vector"], vector, strict=True))) for one in documents.values()]
        scored = [(one, p + 1 if p > 0 else 1 / (1 - p)) for one, p in sorted(products, key=lambda pair: -pair[1])]
    return [
        {"_source": {name: one[name] for name in body["_source"]}, "_score": score, "sort": [one["doc_id"]]}
        for one, score in scored[: body["size"]]
    ]


def started():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.indices = True, {}
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server
