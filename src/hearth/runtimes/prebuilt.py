"""Compiles Go's standard library when a pack of Go is installed, so that no build of a function has to.

It is compiled as builds compile it: with the hooks in package os, by the same command. What the toolchain then finds
in its cache it takes; whatever differs (another flag, hooks of another version of Hearth) it compiles itself.
"""

import os
import subprocess
import tempfile
from pathlib import Path

from hearth.runtimes.shims.build.golang import PREBUILT, compile_command, go_environment
from hearth.runtimes.shims.build.layout import Layout

#: Measured: 25 s on one busy core.
PREBUILD_TIMEOUT_S = 600.0
#: What functions use of the standard library, beside what our own server does.
_PACKAGES = (
    *("archive/tar", "archive/zip", "bufio", "compress/gzip", "compress/zlib", "container/heap", "container/list"),
    *("crypto/aes", "crypto/ecdsa", "crypto/ed25519", "crypto/hmac", "crypto/md5", "crypto/rsa", "crypto/sha1"),
    *("crypto/sha512", "crypto/tls", "crypto/x509", "database/sql", "embed", "encoding/base32", "encoding/csv"),
    *("encoding/gob", "encoding/pem", "encoding/xml", "expvar", "flag", "hash/crc32", "hash/fnv", "html/template"),
    *("image/gif", "image/jpeg", "image/png", "io/ioutil", "log/slog", "log/syslog", "maps", "math/big", "math/cmplx"),
    *("math/rand", "math/rand/v2", "mime/multipart", "net/http/cookiejar", "net/http/httptest", "net/http/httputil"),
    *("net/http/pprof", "net/mail", "net/rpc", "net/smtp", "net/textproto", "os/exec", "os/signal", "os/user"),
    *("path/filepath", "regexp", "slices", "testing", "text/scanner", "text/tabwriter"),
    *("text/template", "time/tzdata", "unicode/utf16"),
)
_HANDLER = """package handler

import (
	"github.com/open-runtimes/types-for-go/v4/openruntimes"
IMPORTS
)

func Main(context openruntimes.Context) openruntimes.Response { return context.Res.Empty() }
"""


def prebuild(files: Path) -> int:
    """Fill the cache beside the toolchain in `files`; returns its size in bytes, 0 if that does not work."""
    root = files.resolve()
    go = root / "bin" / "go"
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(build=f"{folder}/build", home=f"{folder}/home")
        Path(layout.build).mkdir()
        Path(layout.temporary).mkdir(parents=True)
        known = [name for name in _PACKAGES if (root / "src" / name).is_dir()]
        imports = "\n".join(f'\t_ "{name}"' for name in known)
        Path(layout.build, "main.go").write_text(_HANDLER.replace("IMPORTS", imports))
        Path(layout.build, "go.mod").write_text("module openruntimes/handler\n\ngo 1.21\n")
        command = compile_command(layout, layout.build, "main.go", str(go))
        environment = {
            **go_environment(layout),
            "PATH": f"{go.parent}:/usr/bin:/bin",
            "HOME": layout.home,
            "TMPDIR": layout.temporary,
            "GOPROXY": "off",
            "GOCACHE": str(root / PREBUILT),
        }
        try:
            subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=layout.build,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=PREBUILD_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return 0
    size = 0
    for parent, _, names in os.walk(root / PREBUILT):
        Path(parent).chmod(0o755)
        for name in names:
            path = Path(parent, name)
            path.chmod(0o644)
            size += path.stat().st_size
    return size
