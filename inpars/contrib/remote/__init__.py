"""Files in object stores by their fsspec URLs (`s3://`, `gs://`, `az://`): copied here, worked on, copied back."""
