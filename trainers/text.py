"""Text from untrusted sources, made safe to show."""


def printable(text: str) -> str:
    """``text`` with every non-printable character escaped, since it could forge lines or control a terminal.

    Non-printable are control characters, line breaks, marks that change the direction of writing, and bytes of file
    names that are not text.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
