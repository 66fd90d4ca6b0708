"""Files and the records in them: storage, formats, corpora, topics, runs, judgements, manifests."""
