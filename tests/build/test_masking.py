"""Secret values stay out of logs, however the output is cut into pieces."""

import random

from hearth.build.masking import MASK, Mask, MaskedLog

SECRETS = ("npm_token_123456", "123456789", "line one of it\nline two of it", "short")


def log_of(pieces: list[str]) -> str:
    said: list[str] = []
    masked = MaskedLog(said.append, Mask(SECRETS))
    for piece in pieces:
        masked.write(piece)
    masked.close()
    return "".join(said)


def test_values_are_replaced_and_short_ones_are_not() -> None:
    assert log_of(["//r/:_authToken=npm_token_123456 in short\n"]) == f"//r/:_authToken={MASK} in short\n"


def test_each_line_of_a_secret_of_many_lines_is_hidden() -> None:
    assert log_of(["> line two of it\n"]) == f"> {MASK}\n"


def test_the_pieces_do_not_matter() -> None:
    text = "a npm_token_123456 b 123456789 c npm_token_12345 d npm_npm_token_123456789 line one of it\n"
    random_ = random.Random(7)
    for _ in range(300):
        cuts = sorted(random_.sample(range(len(text)), random_.randrange(12)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        assert log_of(pieces).replace(MASK, "") == "a  b  c npm_token_12345 d npm_789 \n", pieces


def test_what_cannot_become_a_secret_is_handed_on_at_once() -> None:
    said: list[str] = []
    masked = MaskedLog(said.append, Mask(SECRETS))
    masked.write("ready\n")
    masked.write("ready\nnpm_")
    assert said == ["ready\n", "ready\n"]


def test_without_secrets_a_log_is_as_it_was() -> None:
    assert Mask(()).hide("anything") == "anything"
    assert Mask(()).unsure("anything") == len("anything")
