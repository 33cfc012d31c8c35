mod md5;

use openruntimes::{Context, Response};
use serde_json::{json, Value};
use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{env, process, thread};

static COUNTED: AtomicU64 = AtomicU64::new(0);
static CLOSED: AtomicU64 = AtomicU64::new(0);

const MULTIPART: &str = "--12345\r\nContent-Disposition: form-data; name=\"one\"\r\n\r\n1\r\n--12345--\r\n";

/// Says that a source has ended, however it did.
struct Closing;

impl Drop for Closing {
    fn drop(&mut self) {
        CLOSED.fetch_add(1, Ordering::SeqCst);
    }
}

fn headers(pairs: &[(&str, &str)]) -> Option<HashMap<String, String>> {
    Some(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
}

fn typed(c: &Context, text: &str, kind: &str) -> Response {
    c.res.text(text, None, headers(&[("Content-Type", kind)]))
}

fn header(c: &Context, name: &str) -> String {
    c.req.headers.get(name).cloned().unwrap_or_else(|| "missing".to_string())
}

fn rest(seconds: f64) {
    thread::sleep(Duration::from_secs_f64(seconds));
}

fn logs(c: Context) -> Response {
    println!("Native log");
    eprintln!("Native error");
    c.log("Debug log");
    c.error("Error log");
    c.log("Log+With+Plus+Symbol");
    c.log(42);
    c.log(4.2);
    c.log(true);
    c.log(json!({"objectKey": "objectValue"}));
    c.log(vec!["arrayValue"]);
    c.log("a".repeat(9000));
    c.error("e".repeat(9000));
    c.res.text("", None, None)
}

fn interleave(c: Context) -> Response {
    let inner = c.clone();
    let started = thread::spawn(move || {
        for _ in 0..5 {
            // whatever a handler starts works for the same execution
            println!("native {}", inner.req.body_text());
            inner.log(format!("own {}", inner.req.body_text()));
            rest(0.001);
        }
    });
    started.join().unwrap();
    c.res.text(c.req.body_text(), None, None)
}

fn body_json(mut c: Context) -> Response {
    match c.req.body_json::<Value>() {
        Ok(value) => c.res.json(value, None, None),
        Err(problem) => panic!("no JSON: {problem}"),
    }
}

fn body(mut c: Context) -> Response {
    match c.req.body() {
        Value::String(text) => c.res.text(text, None, None),
        other => c.res.json(other, None, None),
    }
}

fn stream(c: Context) -> Response {
    let inner = c.clone();
    let given = headers(&[("X-Kind", "pieces"), ("content-type", "text/event-stream")]);
    c.res.stream(
        move |out| {
            inner.log("streaming");
            out.write_all(b"first,")?;
            rest(0.001);
            write!(out, "second,")?;
            out.write_all(&[226, 130, 172])
        },
        Some(202),
        given,
    )
}

fn stream_endless(c: Context) -> Response {
    let inner = c.clone();
    c.res.stream(
        move |out| {
            let _closing = Closing;
            loop {
                inner.log("piece");
                out.write_all(&[7; 100_000])?;
            }
        },
        None,
        None,
    )
}

fn stream_flood(c: Context) -> Response {
    let inner = c.clone();
    c.res.stream(
        move |out| {
            out.write_all(b"begun")?;
            for at in 0..100 {
                inner.log(format!("line {at}"));
            }
            rest(60.0);
            Ok(())
        },
        None,
        None,
    )
}

#[allow(deprecated, unconditional_recursion)]
pub fn main(context: Context) -> Response {
    let c = context;
    let action = c.req.headers.get("x-action").cloned().unwrap_or_default();
    match action.as_str() {
        "text" => c.res.text("Hello World 👋", None, None),
        "json" => c.res.json(json!({"json": true, "message": "fine"}), None, None),
        "charset" => typed(&c, "ÅÆ", "text/plain; charset=iso-8859-1"),
        "uppercaseType" => typed(&c, "ÅÆ", "TEXT/PLAIN"),
        "multipart" => typed(&c, MULTIPART, "multipart/form-data; boundary=12345"),
        "redirect" => c.res.redirect("https://example.com/", None, None),
        "empty" => c.res.empty(),
        "twice" => {
            c.res.text("first", None, None);
            c.res.text("second", None, None)
        }
        "headers" => {
            let seen = (header(&c, "x-open-runtimes-custom-in-header"), header(&c, "cookie"));
            let given = [
                ("first-header", "first-value"),
                ("Second-Header", &seen.0),
                ("cookie", &seen.1),
                ("x-open-runtimes-custom-out-header", "third-value"),
            ];
            c.res.text("OK", None, headers(&given))
        }
        "status" => c.res.text("FAIL", Some(404), None),
        "logThenThrow" => {
            c.log("before the error");
            panic!("Error!");
        }
        "method" => c.res.text(&c.req.method, None, None),
        "url" => c.res.json(
            json!({
                "url": c.req.url, "port": c.req.port, "path": c.req.path, "query": c.req.query,
                "queryString": c.req.query_string, "scheme": c.req.scheme, "host": c.req.host,
            }),
            None,
            None,
        ),
        "requestHeaders" => c.res.json(&c.req.headers, None, None),
        "bodyText" => c.res.text(c.req.body_text(), None, None),
        "bodyJson" => body_json(c),
        "bodyBinary" => c.res.binary(c.req.body_binary(), None, None),
        "body" => body(c),
        "environment" => {
            let variable = |name| env::var(name).ok();
            c.res.json(json!({"set": variable("CUSTOM_ENV_VAR"), "unset": variable("NOT_DEFINED_VAR")}), None, None)
        }
        "logs" => logs(c),
        "spread" => {
            c.log_multiple(vec!["engine:".to_string(), "open-runtimes".to_string()]);
            c.error_multiple(vec!["engine:".to_string(), "open-runtimes".to_string()]);
            c.res.text("OK", None, None)
        }
        "sleep" => {
            c.log("Timeout start.");
            rest(c.req.body_text().parse().unwrap());
            c.log("Timeout end.");
            c.res.text("Successful response.", None, None)
        }
        "interleave" => interleave(c),
        "busy" => {
            c.log("Busy start.");
            loop {
                std::hint::spin_loop();
            }
        }
        "send" => c.res.send(String::from_utf8(c.req.body_raw()).unwrap()),
        "sendNumber" => c.res.send("50"),
        "sendBytes" => Response {
            status_code: 200,
            body: vec![137, 80, 78, 71, 0, 255],
            headers: headers(&[("content-type", "image/png")]).unwrap(),
        },
        "binary1" => c.res.binary(vec![0, 10, 255], None, None),
        "binary2" => c.res.binary([0, 20, 255].to_vec(), Some(200), None),
        "binary3" => c.res.binary(b"\x00\x1e\xff".to_vec(), None, headers(&[("content-type", "a/b")])),
        "binary4" => Response { body: vec![0, 40, 255], ..Response::default() },
        "digest" => c.res.text(md5::digest(c.req.body_binary()), None, headers(&[("x-method", &c.req.method)])),
        "large" => c.res.text("\x07".repeat(c.req.body_text().parse().unwrap()), None, None),
        "badHeaders" => {
            let given = [("x-split", "a\r\nx-injected: 1"), ("bad name", "b"), ("fine", "c")];
            c.res.text("OK", None, headers(&given))
        }
        "manyHeaders" => {
            let many = (0..10000).map(|at| (format!("x-{at}"), "v".to_string())).collect();
            c.res.text("OK", None, Some(many))
        }
        "badStatus" => c.res.text("OK", Some(20000), None),
        "cookies" => {
            let given = [("Set-Cookie", "a=1; Path=/\nb=2"), ("other", "header")];
            c.res.text("OK", None, headers(&given))
        }
        "exit" => {
            c.log("leaving");
            process::exit(3);
        }
        "signal" => {
            c.log("falling");
            process::abort();
        }
        "child" => {
            process::Command::new("/bin/sh").args(["-c", "echo from the child"]).status().unwrap();
            c.res.text("OK", None, None)
        }
        "count" => c.res.text((COUNTED.fetch_add(1, Ordering::SeqCst) + 1).to_string(), None, None),
        "flood" => {
            let line = "x".repeat(79);
            for _ in 0..c.req.body_text().parse().unwrap() {
                c.log(&line);
            }
            c.res.text("OK", None, None)
        }
        "pid" => c.res.text(process::id().to_string(), None, None),
        "stream" => stream(c),
        "streamFunction" => c.res.stream(|out| out.write_all(b"called"), None, None),
        "streamThrow" => c.res.stream(
            |out| {
                out.write_all(b"before")?;
                Err(std::io::Error::new(std::io::ErrorKind::Other, "midway"))
            },
            None,
            None,
        ),
        "streamEndless" => stream_endless(c),
        "streamStuck" => c.res.stream(
            |out| {
                out.write_all(b"begun")?;
                rest(60.0);
                Ok(())
            },
            None,
            None,
        ),
        "closed" => c.res.text(CLOSED.load(Ordering::SeqCst).to_string(), None, None),
        "streamFlood" => stream_flood(c),
        _ => panic!("Unknown action"),
    }
}
