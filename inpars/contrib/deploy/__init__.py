"""Deploys tuned models: a folder for other servers, an archive with its handler, a SageMaker endpoint.

Importing this package loads neither torch nor boto3.
"""
