"""Queries that people wrote, with the documents that answer them: headings, FAQs, search logs, votes."""
