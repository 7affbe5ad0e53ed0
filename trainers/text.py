"""Text that others wrote, as it may be shown."""


def printable(text: str) -> str:
    """``text`` with all that is no visible character written as its escape: it could forge lines, and steer a terminal.

    Such are control characters, line breaks, marks that turn the direction of writing, and bytes of file names that are
    no text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
