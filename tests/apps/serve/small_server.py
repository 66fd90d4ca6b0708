"""A server process over a collection whose results can be worked out by hand, for tests of the service and the page.

    python small_server.py [--api-key-env] [--slow SECONDS] ...

Systems: `tuned` counts a query's words in a document, `base` its letters, `broken` raises. The reader answers with the
first word after the query's last one. Prints its address on stdout once it takes connections.
"""

import argparse
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
from collection import Collection

from inpars.apps.qa.engine import Engine, System
from inpars.apps.qa.records import Answer, Span
from inpars.apps.serve.app import create_app
from inpars.apps.serve.feedback import Feedback
from inpars.apps.serve.options import ServeOptions
from inpars.apps.serve.server import listen, run, url_of
from inpars.apps.serve.service import Service, metadata_fields
from inpars.apps.serve.source_files import SourceFiles
from inpars.records import Document

SCRIPT = "<script>window.hacked = true; document.title = 'hacked'</script>"
TEXTS = [
    ("amber", "Amber", "Amber is fossil resin. People carve amber into beads.", "stones.pdf", "Resins"),
    (
        "basalt",
        "Basalt",
        "Basalt is a dark volcanic rock that covers the ocean floor.",
        "stones.pdf",
        "Rocks > Lava",
    ),
    ("canyon", "Canyon", "A canyon is a deep valley that a river cut into rock.", "land.html", "Valleys"),
    ("delta", "Delta", "A delta is land that a river builds where it meets the ocean.", "land.html", "Rivers"),
    (
        "script",
        "A page with a script",
        f"Hostile: {SCRIPT} <img src=x onerror=alert(1)> hostile.",
        "evil.html",
        "Top",
    ),
    ("emoji", "Signs", "\U0001f30b A volcano \U0001f30b erupts; naïve café 火山 über.", "signs.md", "Fire"),
    ("long", "Long", "Granite " * 400 + "ends here.", "stones.pdf", "Rocks > Granite"),
]
DOCUMENTS = Collection(
    Document(doc_id, text, title, {"source": source, "headings": heading.split(" > ")})
    for doc_id, title, text, source, heading in TEXTS
)
WIDTH = 26


def words(text):
    return re.findall(r"\w+", text.lower())


def letters(text):
    """Counts of a to z, of unit length."""
    counts = np.array([text.lower().count(chr(ord("a") + n)) for n in range(WIDTH)], dtype=np.float32)
    return counts / max(1.0, float(np.linalg.norm(counts)))


class Part:
    def __init__(self, name, score, delay=0.0):
        self.name, self.score, self.delay = name, score, delay

    def search(self, queries, k, filters):
        time.sleep(self.delay)  # a pass through a model, however many queries
        run = {}
        for query in queries:
            scores = {d.doc_id: self.score(query.text, d) for d in DOCUMENTS if fits(d, filters)}
            best = sorted(((s, d) for d, s in scores.items() if s > 0), reverse=True)[:k]
            run[query.query_id] = {d: s for s, d in best}
        return run


def fits(document, filters):
    values = {name: value if isinstance(value, list) else [value] for name, value in document.metadata.items()}
    return all(
        any(re.fullmatch(pattern.replace("*", ".*"), value) for value in values.get(name, []))
        for name, pattern in filters.items()
    )


def count_words(query, document):
    tokens = words(document.full_text)
    return float(sum(tokens.count(word) for word in set(words(query))))


def compare_letters(query, document):
    return float(letters(query) @ letters(document.full_text))


def fail(query, document):
    raise RuntimeError(f"secret path and {query}")


class Encoder:
    def __init__(self, name):
        self.name = name

    def encode_queries(self, texts):
        return np.stack([letters(text) for text in texts])

    encode_documents = encode_queries


class Reranker:
    name = "words"

    def score(self, pairs):
        return [float(sum(words(text).count(word) for word in words(query))) - 1.0 for query, text in pairs]


class Reader:
    name, closest = "next-word", False

    def read(self, question, hits):
        last = words(question)[-1]
        for number, hit in enumerate(hits, start=1):
            match = re.search(rf"\b{re.escape(last)}\W+(\w+)", hit.document.text, re.IGNORECASE)
            if match:
                span = Span(match.start(1), match.end(1))
                text = span.of(hit.document.text)
                return Answer(question, "extractive", True, text, self.name, 0.75, span, (number,), tuple(hits))
        return Answer(question, "extractive", False, "", self.name, 0.1, sources=tuple(hits), reason="no source says")


class Writer:
    name = "parrot"

    def close(self):
        pass

    def write(self, question, hits):
        text = f"From the documents: {hits[0].document.title} [1]." if hits else ""
        return Answer(
            question, "generated", bool(hits), text, self.name, cited=(1,) if hits else (), sources=tuple(hits)
        )


def engine(delay):
    tuned, base = Part("tuned", count_words, delay), Part("base", compare_letters, delay)
    systems = {
        "tuned": System((tuned,), "words in common"),
        "base": System((base,), "letters in common"),
        "broken": System((Part("broken", fail),), "always fails"),
    }
    encoders = {"tuned": Encoder("letters"), "base": Encoder("letters-base")}
    return Engine(
        DOCUMENTS, systems, encoders=encoders, reranker=Reranker(), reader=Reader(), writer=Writer(), notes=("a note",)
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("--max-concurrent", type=int, default=64)
    parser.add_argument("--max-items", type=int, default=32)
    parser.add_argument("--feedback", type=Path)
    parser.add_argument("--files", type=Path)
    flags = parser.parse_args()
    options = ServeOptions(
        max_batch=flags.max_items, max_concurrent=flags.max_concurrent, request_timeout_seconds=flags.timeout
    )
    service = Service(
        engine(flags.slow),
        options=options,
        feedback=Feedback(flags.feedback) if flags.feedback else None,
        fields=metadata_fields(DOCUMENTS),
        examples=("amber beads",),
        files=SourceFiles(flags.files) if flags.files else None,
    )
    app = create_app(
        service, api_key=os.environ.get("INPARS_API_KEY"), hosts=("127.0.0.1", "localhost", "Docs.Example:80")
    )
    bound = listen("127.0.0.1", 0)
    run(app, bound, grace_seconds=5, started=lambda: print(url_of(bound, "127.0.0.1"), flush=True))
    print("stopped", file=sys.stderr)


if __name__ == "__main__":
    main()
