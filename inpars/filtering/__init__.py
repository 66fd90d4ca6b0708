"""Which synthetic queries stay."""
