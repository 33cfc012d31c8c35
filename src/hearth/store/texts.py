"""Texts as every database can hold them."""


def storable(text: str) -> str:
    """Replace what PostgreSQL or UTF-8 cannot hold: NUL characters and lone surrogates.

    Logs and headers come from user code, which may print anything; a record must not be lost over that.
    """
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = text.encode("utf-8", "replace").decode()
    return text
