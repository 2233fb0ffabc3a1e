"""The page to try an exported model on: a local server, its answers, its limits."""
