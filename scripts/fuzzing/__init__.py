"""The parts of `scripts/fuzz.py`: valid files of every kind, ways to spoil them, and processes that read them.

`targets.py` is the table of everything that reads; a new reader is one line there.
"""
