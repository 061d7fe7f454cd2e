"""What went wrong, in words that say how to go on."""


class RecoverError(Exception):
    """A file or a request that cannot be used; the message names it, and a way out."""
