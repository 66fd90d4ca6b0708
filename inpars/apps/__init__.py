"""Programs on top of the core: search and answers over HTTP, question answering."""
