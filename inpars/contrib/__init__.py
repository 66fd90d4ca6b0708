"""What runs beside the core and may be left out: other formats and engines, deployment, verification, comparison."""
