use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

/// A response with this header has its body from the source that its execution holds. Internal headers never leave.
pub const STREAM_HEADER: &str = "x-open-runtimes-stream";

/// What a handler returns; build it with the methods of `context.res`.
#[derive(Clone, Debug)]
pub struct Response {
    pub status_code: u16,
    pub body: Vec<u8>,
    /// A `set-cookie` of several lines is as many headers.
    pub headers: HashMap<String, String>,
}

impl Response {
    pub fn new() -> Self {
        Response { status_code: 200, body: Vec::new(), headers: HashMap::new() }
    }
}

impl Default for Response {
    fn default() -> Self {
        Self::new()
    }
}

/// The reader of a streamed body has left. Writing to it fails with this.
#[derive(Debug)]
pub struct StreamClosed;

impl fmt::Display for StreamClosed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the reader of this response has left")
    }
}

impl std::error::Error for StreamClosed {}

/// Where a source writes its pieces; waits while the reader has not taken what was written before.
pub struct Stream<'a> {
    write: &'a mut dyn FnMut(&[u8]) -> Result<(), StreamClosed>,
}

impl<'a> Stream<'a> {
    pub fn new(write: &'a mut dyn FnMut(&[u8]) -> Result<(), StreamClosed>) -> Self {
        Stream { write }
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        match (self.write)(piece) {
            Ok(()) => Ok(piece.len()),
            Err(closed) => Err(io::Error::new(io::ErrorKind::BrokenPipe, closed)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What writes a streamed body.
pub type Source = Box<dyn FnOnce(&mut Stream<'_>) -> io::Result<()> + Send>;

/// Builds responses; one takes effect only if the handler returns it.
#[derive(Clone, Default)]
pub struct ContextResponse {
    source: Arc<Mutex<Option<(String, Source)>>>,
    made: Arc<Mutex<u64>>,
}

type Headers = Option<HashMap<String, String>>;

impl ContextResponse {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn text<S: Into<String>>(&self, text: S, status_code: Option<u16>, headers: Headers) -> Response {
        self.binary(text.into().into_bytes(), status_code, headers)
    }

    pub fn json<T: Serialize>(&self, data: T, status_code: Option<u16>, headers: Headers) -> Response {
        match serde_json::to_vec(&data) {
            Ok(body) => made(body, status_code.unwrap_or(200), headers, "content-type", "application/json"),
            Err(problem) => self.text(format!("Error encoding JSON: {problem}"), Some(500), headers),
        }
    }

    pub fn binary(&self, data: Vec<u8>, status_code: Option<u16>, headers: Headers) -> Response {
        Response { status_code: status_code.unwrap_or(200), body: data, headers: headers.unwrap_or_default() }
    }

    pub fn empty(&self) -> Response {
        self.binary(Vec::new(), Some(204), None)
    }

    pub fn redirect<S: Into<String>>(&self, url: S, status_code: Option<u16>, headers: Headers) -> Response {
        made(Vec::new(), status_code.unwrap_or(301), headers, "location", &url.into())
    }

    #[deprecated(note = "Use text(), json(), or binary() instead")]
    pub fn send<S: Into<String>>(&self, data: S) -> Response {
        self.text(data, None, None)
    }

    /// Sends a body piece by piece, as `source` writes it. Writing fails once the reader has left.
    pub fn stream<F>(&self, source: F, status_code: Option<u16>, headers: Headers) -> Response
    where
        F: FnOnce(&mut Stream<'_>) -> io::Result<()> + Send + 'static,
    {
        let mut count = self.made.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *count += 1;
        let name = count.to_string();
        *self.source.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some((name.clone(), Box::new(source)));
        made(Vec::new(), status_code.unwrap_or(200), headers, STREAM_HEADER, &name)
    }

    /// What writes the body of a response; None for any that is no stream, or not the last one that was built.
    pub fn source_of(&self, response: &Response) -> Option<Source> {
        let wanted = response.headers.get(STREAM_HEADER)?;
        let held = self.source.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()?;
        (&held.0 == wanted).then_some(held.1)
    }
}

/// A response with a header that belongs to its kind, unless it was given.
fn made(body: Vec<u8>, status_code: u16, headers: Headers, name: &str, value: &str) -> Response {
    let mut headers = headers.unwrap_or_default();
    if name == "location" || !headers.keys().any(|given| given.eq_ignore_ascii_case(name)) {
        headers.insert(name.to_string(), value.to_string());
    }
    Response { status_code, body, headers }
}
