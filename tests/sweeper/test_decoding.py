import io

from rich.console import Console

from sweeper.decoding import decoding_shown
from trainers.data.progress import tell


def shown(terminal: bool) -> str:
    text = io.StringIO()
    with decoding_shown(Console(file=text, force_terminal=terminal, width=100)):
        tell(300, 1200)
        tell(1200, 1200)
    told = text.getvalue()
    tell(7, 7)
    assert text.getvalue() == told, "nobody listens any more"
    return told


def test_a_terminal_shows_how_many_images_are_decoded() -> None:
    assert "1200/1200" in shown(True)


def test_a_file_gets_no_bar() -> None:
    assert shown(False) == ""
