"""A network trained elsewhere becomes a run: looked at, measured, exported."""
