"""Inputs and outputs in object stores by their URLs (`s3://`, `gs://`, `az://`), through local copies."""
