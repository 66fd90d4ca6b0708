"""Files and their records: storage, formats, corpora, topics, runs, judgements, manifests."""
