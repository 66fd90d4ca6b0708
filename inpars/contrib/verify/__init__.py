"""Whether a finished run or file can be reproduced: hashes, log-probs, scores, the chosen system."""
