"""From names to loaded networks, and where and in which number format they compute."""
