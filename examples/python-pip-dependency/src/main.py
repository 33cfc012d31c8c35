"""Says a number of bytes in words, with a package that `pip install` put there at build time."""

import humanize


def main(context):
    text = context.req.query.get("bytes", "")
    if not text.isdigit():
        return context.res.text("Ask with ?bytes=NUMBER.", 400)
    size = humanize.naturalsize(int(text))
    context.log(f"{text} bytes are {size}")
    return context.res.text(size)
