"""Reading what a run has left on disk. Never imports Ray."""
