"""The reference page: one HTML file made from the document, without scripts or anything from elsewhere."""

import json
import re
from html import escape
from typing import Any

Schema = dict[str, Any]

#: For `content-security-policy`: the page needs its own style and nothing else.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_CODE = re.compile(r"`([^`]+)`")
_STYLE = """
:root{color-scheme:light dark;--text:#1c1b1a;--soft:#5f5b57;--line:#ddd8d2;--back:#fdfcfb;--box:#f3f0ec;--mark:#a33b12}
@media(prefers-color-scheme:dark){:root{--text:#ece8e4;--soft:#a9a29b;--line:#3b3733;--back:#191715;--box:#242120;
--mark:#ff9a6b}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--text);font:16px/1.55 system-ui,sans-serif;overflow-wrap:anywhere}
.page{display:grid;grid-template-columns:17rem minmax(0,1fr);max-width:80rem;margin:auto}
nav{position:sticky;top:0;align-self:start;max-height:100vh;overflow:auto;padding:1.5rem 1rem;font-size:.875rem}
nav a{display:block;padding:.15rem 0;color:inherit;text-decoration:none}
nav a:hover,nav a:focus{color:var(--mark)}
nav a.group{font-weight:600;text-transform:capitalize;margin-top:.6rem}
main{padding:1.5rem 1rem 6rem}
h1{margin:.2em 0}h2{margin:2.5em 0 .5em;text-transform:capitalize}h3{margin:0 0 .25em}h4{margin:1.2em 0 .3em}
article{border-top:1px solid var(--line);padding:1.5rem 0;scroll-margin-top:1rem}
code,pre{font:.875em/1.5 ui-monospace,monospace}
code{background:var(--box);border-radius:.25rem;padding:.1em .3em}
.path{margin:0 0 .5rem}.path code{background:none;padding:0}.verb{color:var(--mark);font-weight:600}
.soft,small{color:var(--soft)}
table{border-collapse:collapse;width:100%;font-size:.9375rem}
th,td{text-align:left;vertical-align:top;padding:.4rem .5rem .4rem 0;border-bottom:1px solid var(--line)}
td:first-child{white-space:nowrap;width:1%;padding-right:1rem}
details{margin:.4rem 0}details>summary{cursor:pointer}
details ul{margin:.3rem 0}
a{color:var(--mark)}
@media(max-width:50rem){
.page{display:block}nav{position:static;max-height:none;padding-bottom:0}nav a{display:none}
nav a.group{display:inline-block;margin-right:1rem}
table,tbody,tr,td{display:block}thead{display:none}td{border:0;padding:.1rem 0}
td:first-child{white-space:normal;width:auto}tr{border-bottom:1px solid var(--line);padding:.5rem 0}
}
"""


def page(document: Schema) -> str:
    """The whole page. Deprecated operations are named with the ones they are other paths of."""
    info = document["info"]
    groups: dict[str, list[tuple[str, str, Schema]]] = {tag["name"]: [] for tag in document["tags"]}
    others: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if operation.get("deprecated"):
                others.setdefault(operation["operationId"].rpartition(".")[0], []).append(f"{method.upper()} {path}")
            else:
                groups[operation["tags"][0]].append((method.upper(), path, operation))
    links, sections = [], []
    for tag, entries in groups.items():
        if not entries:
            continue
        sections.append(f'<h2 id="{escape(tag)}">{escape(tag)}</h2>')
        links.append(f'<a class="group" href="#{escape(tag)}">{escape(tag)}</a>')
        for method, path, operation in entries:
            name = operation["operationId"]
            links.append(f'<a href="#{escape(name)}">{escape(name)}</a>')
            sections.append(_operation(method, path, operation, others.get(name, [])))
    models = [_model(name, schema) for name, schema in document["components"]["schemas"].items()]
    links.append('<a class="group" href="#models">Models</a>')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style></head>\n"
        f'<body><div class="page"><nav aria-label="Endpoints">'
        f"{''.join(links)}</nav>\n<main><h1>{escape(info['title'])}</h1>"
        f'<p class="soft">Version {escape(info["version"])}, also as '
        f'<a href="openapi.json">OpenAPI 3.1 document</a>.</p>{_prose(info["description"])}\n'
        f'{"".join(sections)}\n<h2 id="models">Models</h2>{"".join(models)}</main></div></body></html>\n'
    )


def _operation(method: str, path: str, operation: Schema, others: list[str]) -> str:
    also = f'<p class="soft">Also: {", ".join(f"<code>{escape(it)}</code>" for it in others)}</p>' if others else ""
    description = operation["description"].removeprefix(operation["summary"])
    return (
        f'<article id="{escape(operation["operationId"])}"><h3>{_inline(operation["summary"])}</h3>'
        f'<p class="path"><code><span class="verb">{method}</span> {escape(path)}</code></p>'
        f"{_prose(description)}{also}{_parameters(operation)}{_answers(operation)}</article>\n"
    )


def _parameters(operation: Schema) -> str:
    rows = [
        _row(it["name"], it["schema"], it["description"], f"in {it['in']}" + (", required" if it["required"] else ""))
        for it in operation["parameters"]
    ]
    contents = operation.get("requestBody", {}).get("content", {})
    for kind, content in list(contents.items())[:1]:
        schema = content["schema"]
        required = schema.get("required", ())
        place = "in form" if kind.startswith("multipart") else "in body"
        rows += [
            _row(name, it, it.get("description", ""), place + (", required" if name in required else ""))
            for name, it in schema["properties"].items()
        ]
    return _table("Parameters", ("Name", "Meaning"), rows) if rows else ""


def _row(name: str, schema: Schema, description: str, note: str = "") -> str:
    default = f", default <code>{escape(json.dumps(schema['default']))}</code>" if "default" in schema else ""
    kind = _kind(schema)
    about = ", ".join(part for part in (kind, escape(note)) if part) + default
    return f"<tr><td><code>{escape(name)}</code></td><td>{_inline(description)}<br><small>{about}</small></td></tr>"


def _kind(schema: Schema) -> str:
    """The type of a value in a few words, as HTML."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#model-{escape(name)}">{escape(name)}</a>'
    if "anyOf" in schema:
        kinds = [_kind(part) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind))
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "type" not in schema:
        return "text" if "enum" in schema else ""
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if "array" in types:
        return f"list of {_kind(schema['items']) or 'values'}"
    return " or ".join(escape(it) for it in types if it != "null")


def _answers(operation: Schema) -> str:
    parts = []
    for status, answer in operation["responses"].items():
        if int(status) < 400:
            shown = []
            for kind, content in answer.get("content", {}).items():
                model = _kind(content["schema"]) if "schema" in content else ""
                shown.append(f"<code>{escape(kind)}</code>" + (f" {model}" if model else ""))
            parts.append(f"<p><strong>{status}</strong> {_inline(answer['description'])} {', '.join(shown)}</p>")
        else:
            parts.append(f"<details><summary>{status}</summary>{_prose(answer['description'])}</details>")
    return f"<h4>Answers</h4>{''.join(parts)}"


def _model(name: str, schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        _row(key, it, it.get("description", ""), "" if key in required else "not always there")
        for key, it in schema.get("properties", {}).items()
    ]
    table = _table("", ("Key", "Meaning"), rows) if rows else ""
    return (
        f'<article id="model-{escape(name)}"><h3>{escape(name)}</h3>{_prose(schema.get("description", ""))}{table}'
        "</article>\n"
    )


def _table(title: str, heads: tuple[str, str], rows: list[str]) -> str:
    heading = f"<h4>{title}</h4>" if title else ""
    head = "".join(f"<th>{it}</th>" for it in heads)
    return f"{heading}<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _prose(text: str) -> str:
    """Paragraphs and lists of the little Markdown that descriptions use."""
    parts = []
    for block in filter(None, (it.strip() for it in text.split("\n\n"))):
        if block.startswith("- "):
            items = "".join(f"<li>{_inline(line[2:])}</li>" for line in block.split("\n"))
            parts.append(f"<ul>{items}</ul>")
        else:
            parts.append(f"<p>{_inline(block)}</p>")
    return "".join(parts)


def _inline(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text, quote=False))
