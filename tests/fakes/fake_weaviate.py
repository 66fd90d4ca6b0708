"""The few requests that a push makes of Weaviate, answered by its client's own protocol files; no server of theirs."""

import json
import struct
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from weaviate.proto.v1 import batch_delete_pb2, batch_pb2, health_weaviate_pb2, search_get_pb2, weaviate_pb2_grpc

DEFAULTS = {  # what a server adds to a collection
    "invertedIndexConfig": {
        "bm25": {"b": 0.75, "k1": 1.2},
        "cleanupIntervalSeconds": 60,
        "stopwords": {"preset": "en", "additions": None, "removals": None},
    },
    "multiTenancyConfig": {"enabled": False, "autoTenantCreation": False, "autoTenantActivation": False},
    "replicationConfig": {"factor": 1, "asyncEnabled": False, "deletionStrategy": "NoAutomatedResolution"},
    "shardingConfig": {
        **dict.fromkeys(("desiredCount", "actualCount"), 1),
        **dict.fromkeys(("virtualPerPhysical", "desiredVirtualCount", "actualVirtualCount"), 128),
        "key": "_id",
        "strategy": "hash",
        "function": "murmur3",
    },
}
INDEXED = {"indexFilterable": True, "indexSearchable": True, "indexRangeFilters": False}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_one(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.answer(self.path.partition("?")[0].removeprefix("/v1"), raw)
        out = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    do_GET = do_POST = handle_one

    def answer(self, path, raw):
        schema = self.server.schema
        if path == "/meta":
            return 200, {"version": "1.32.0", "hostname": "http://[::]:8080", "modules": {}}
        if path == "/.well-known/ready":
            return 200, {}
        if path == "/schema" and self.command == "POST":
            given = json.loads(raw)
            for config in given["vectorConfig"].values():
                assert config["vectorIndexType"] == "flat"
                assert config["vectorIndexConfig"]["distance"] == "dot"
                config["vectorIndexConfig"] |= {"vectorCacheMaxObjects": 10**12, "pq": {"enabled": False}}
            given["properties"] = [INDEXED | one for one in given["properties"]]
            schema[given["class"]] = DEFAULTS | given
            return 200, schema[given["class"]]
        name = path.removeprefix("/schema/")
        return (200, schema[name]) if path.startswith("/schema/") and name in schema else (404, {"error": []})


class Objects(weaviate_pb2_grpc.WeaviateServicer):
    def __init__(self):
        self.objects = {}

    def BatchObjects(self, request, context):
        for one in request.objects:
            vector = one.vectors[0].vector_bytes if one.vectors else one.vector_bytes
            self.objects.setdefault(one.collection, {})[one.uuid] = (dict(one.properties.non_ref_properties), vector)
        return batch_pb2.BatchObjectsReply(took=0.1)

    def BatchDelete(self, request, context):
        objects, ids = self.objects[request.collection], request.filters.value_text_array.values
        assert request.filters.target.property == "_id"
        return batch_delete_pb2.BatchDeleteReply(successful=sum(objects.pop(id_, None) is not None for id_ in ids))

    def Search(self, request, context):
        objects = self.objects.get(request.collection, {})
        rows = [(id_, properties, vector, None) for id_, (properties, vector) in sorted(objects.items())]
        if request.HasField("near_vector"):
            wanted = _floats(request.near_vector.vector_bytes or request.near_vector.vectors[0].vector_bytes)
            rows = [(*row[:3], -sum(a * b for a, b in zip(_floats(row[2]), wanted, strict=True))) for row in rows]
            rows.sort(key=lambda row: row[3])
        elif request.after:
            rows = [row for row in rows if row[0] > request.after]
        return search_get_pb2.SearchReply(results=[_result(request, *row) for row in rows[: request.limit]])


def _result(request, id_, properties, vector, distance):
    result = search_get_pb2.SearchResult()
    result.metadata.id, result.metadata.id_as_bytes = id_, uuid.UUID(id_).bytes
    if distance is not None and request.metadata.distance:
        result.metadata.distance, result.metadata.distance_present = distance, True
    if request.metadata.vector:
        result.metadata.vector_bytes = vector
    wanted = request.properties.non_ref_properties
    everything = request.properties.return_all_nonref_properties
    for name, value in properties.items():
        if everything or name in wanted:
            result.properties.non_ref_props.fields[name].text_value = value
    return result


def _floats(content):
    return struct.unpack(f"<{len(content) // 4}f", content)


class Health(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        if handler_call_details.method != "/grpc.health.v1.Health/Check":
            return None
        serving = health_weaviate_pb2.WeaviateHealthCheckResponse(status="SERVING")
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: serving, response_serializer=lambda reply: reply.SerializeToString()
        )


class Started:
    """Both servers, on ports of their own."""

    def __init__(self):
        self.web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.web.daemon_threads, self.web.schema = True, {}
        threading.Thread(target=self.web.serve_forever, args=(0.05,), daemon=True).start()
        self.grpc = grpc.server(ThreadPoolExecutor(4), handlers=(Health(),))
        weaviate_pb2_grpc.add_WeaviateServicer_to_server(Objects(), self.grpc)
        self.grpc_port = self.grpc.add_insecure_port("127.0.0.1:0")
        self.grpc.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.web.server_port}"

    def stop(self):
        self.grpc.stop(None)
        self.web.shutdown()
        self.web.server_close()
