"""`inpars run`: the whole pipeline, from documents to a report."""
