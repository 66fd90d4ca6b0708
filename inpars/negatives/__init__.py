"""From queries to training data: negatives, triples, their audit, splits."""
