"""Tuned models to where they serve: a folder that other servers load, an archive with its handler, an endpoint.

Importing this package loads neither torch nor boto3.
"""
