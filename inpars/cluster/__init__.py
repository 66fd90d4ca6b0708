"""The same stages on several machines: shards of the work, merged to the bytes of one machine's run."""
