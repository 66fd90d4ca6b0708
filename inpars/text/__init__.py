"""What texts are compared by: their words, hashes of them, and how many of them two texts share."""
