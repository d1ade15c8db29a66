"""Methods of somebody else's: each is one file."""
