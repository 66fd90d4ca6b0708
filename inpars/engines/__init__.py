"""How a network is computed on this machine: with which library, number format, threads and batches.

Deleting a module here changes speed, not what a stage does. Importing this package loads no library.
"""
