"""The files that documents were read from, sent to browsers so that no script in them runs.

Clients name documents, never paths: only files that a document's metadata names are sent, and none outside the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from starlette.responses import FileResponse

from inpars.records import Document

TYPES = {
    ".pdf": "application/pdf",
    ".html": "text/html",
    ".htm": "text/html",
    ".md": "text/plain",
    ".txt": "text/plain",
}
OTHER = "application/octet-stream"
POLICIES = {
    "text/html": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "application/pdf": "default-src 'self'; style-src 'unsafe-inline'; object-src 'self'",  # the browser's own viewer
}


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files of an ingested folder."""

    folder: Path

    def path_of(self, document: Document) -> Path | None:
        """The source file of a document; None if it is not in the folder."""
        source, root = document.metadata.get("source"), self.folder.resolve()
        if not isinstance(source, str) or "\0" in source:
            return None
        paths = [(root / name).resolve() for name in (source, unquote(source))]
        return next((path for path in paths if path.is_relative_to(root) and path.is_file()), None)


def file_response(path: Path) -> FileResponse:
    """The file: shown inline if browsers can do that safely, else as a download."""
    media_type = TYPES.get(path.suffix.lower(), OTHER)
    policy = POLICIES.get(media_type)
    return FileResponse(
        path,
        media_type=media_type,
        filename=path.name,
        content_disposition_type="attachment" if media_type == OTHER else "inline",
        headers={"Content-Security-Policy": policy} if policy else None,
    )
