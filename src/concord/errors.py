"""What went wrong, for the person who typed the command."""


class ConcordError(Exception):
    """A mistake that the user can put right: one clear line of what was given, what was expected and what to do.

    The command line prints it as ``error: ...`` on stderr and ends with exit code 2; a bug keeps its traceback.
    """
