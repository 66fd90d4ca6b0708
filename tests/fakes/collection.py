"""A collection in memory, as engines and indexes read one."""


class Collection(dict):
    """Documents by id."""

    sha256 = "made by a test"

    def __init__(self, documents):
        super().__init__({document.doc_id: document for document in documents})

    def __iter__(self):
        return iter(self.values())
