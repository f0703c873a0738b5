"""One file a command; each is one function of its arguments."""
