//! One request from its first frame to its response.

use crate::channel::{encoded, send_raw, BODY_PIECE_BYTES};
use crate::{clock, locked, native, request, running};
use openruntimes::{Context, Logger, LoggerType, Response, Source, Stream, StreamClosed};
use serde_json::{json, Value};
use std::collections::HashMap;
use std::io::{self, Write};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so
/// does a line after a pause; a flood is gathered into larger frames.
const DIRECT_LINES: usize = 32;
const BATCH_BYTES: usize = 16 * 1024;
const PAUSE: Duration = Duration::from_millis(50);
const LOG_FRAME_BYTES: usize = 512 * 1024;
const PIECE_BYTES: usize = 64 * 1024;

struct State {
    is_open: bool,
    body: Vec<u8>,
    stream: &'static str,
    pending: Vec<u8>,
    lines: usize,
    flushed_at: Instant,
    is_flush_planned: bool,
    /// Of a streamed response: whether it has begun, how many bytes may be sent, and whether to stop.
    is_streaming: bool,
    room: usize,
    is_stopped: bool,
}

pub struct Execution {
    id: u64,
    header: Value,
    enforced: Arc<HashMap<String, String>>,
    is_logging: bool,
    state: Mutex<State>,
    has_room: Condvar,
}

impl Execution {
    /// `window`: how many bytes of a streamed response may be on their way.
    pub fn new(header: Value, window: usize, enforced: Arc<HashMap<String, String>>) -> Self {
        Execution {
            id: header["id"].as_u64().unwrap_or(0),
            is_logging: header["logging"] == true,
            header,
            enforced,
            state: Mutex::new(State {
                is_open: true,
                body: Vec::new(),
                stream: "",
                pending: Vec::new(),
                lines: 0,
                flushed_at: Instant::now(),
                is_flush_planned: false,
                is_streaming: false,
                room: window,
                is_stopped: false,
            }),
            has_room: Condvar::new(),
        }
    }

    pub fn take_body(&self, piece: &[u8]) {
        locked(&self.state).body.extend_from_slice(piece);
    }

    /// Adds whole lines, or any piece of native output, to one of the log streams. Any thread may call it.
    pub fn write(&self, stream: &'static str, text: &[u8]) {
        let mut state = locked(&self.state);
        if !state.is_open || !self.is_logging || text.is_empty() {
            return;
        }
        if stream != state.stream {
            self.flush_now(&mut state);
            state.stream = stream;
        }
        state.pending.extend_from_slice(text);
        state.lines += 1;
        let is_due = state.pending.len() >= BATCH_BYTES || state.flushed_at.elapsed() >= PAUSE;
        if state.lines <= DIRECT_LINES || is_due {
            self.flush_now(&mut state);
        } else if !state.is_flush_planned {
            state.is_flush_planned = true;
            drop(state);
            if let Some(own) = locked(running()).get(&self.id) {
                clock::plan(Instant::now() + PAUSE, Arc::downgrade(own), Execution::flush);
            }
        }
    }

    pub fn error(&self, text: &str) {
        self.write("error", format!("{text}\n").as_bytes());
    }

    /// Sends what is gathered of the log.
    pub fn flush(&self) {
        let mut state = locked(&self.state);
        state.is_flush_planned = false;
        self.flush_now(&mut state);
    }

    fn flush_now(&self, state: &mut State) {
        let frames = self.take_pending(state);
        if !frames.is_empty() {
            send_raw(&frames);
            if state.lines >= DIRECT_LINES {
                state.flushed_at = Instant::now();
            }
        }
    }

    /// Log frames that were not sent yet; forgets them.
    fn take_pending(&self, state: &mut State) -> Vec<u8> {
        let header = json!({"type": "log", "id": self.id, "stream": state.stream});
        let frames = state.pending.chunks(LOG_FRAME_BYTES).flat_map(|piece| encoded(&header, piece)).collect();
        state.pending.clear();
        frames
    }

    /// Calls the handler in a thread of its own.
    pub fn start(self: &Arc<Self>) {
        let seconds = self.header["timeout"].as_f64().unwrap_or(0.0).clamp(0.0, 1e9);
        clock::plan(Instant::now() + Duration::from_secs_f64(seconds), Arc::downgrade(self), Execution::time_out);
        let own = self.clone();
        let started = thread::Builder::new().stack_size(8 * 1024 * 1024).spawn(move || {
            native::own(own.id);
            own.run();
        });
        if let Err(problem) = started {
            self.error(&format!("The handler's thread could not be started: {problem}"));
            self.answer(500, &HashMap::new(), b"", false);
        }
    }

    fn run(self: &Arc<Self>) {
        let sink = self.clone();
        let logger = Logger::new(self.id.to_string(), Arc::new(move |kind, line: &str| {
            let stream = if kind == LoggerType::Error { "error" } else { "log" };
            sink.write(stream, format!("{line}\n").as_bytes());
        }));
        let mut context = Context::new(logger);
        request::fill(&mut context.req, &self.header, &self.enforced);
        context.req.set_body_binary(std::mem::take(&mut locked(&self.state).body));
        let builder = context.res.clone();
        let outcome = catch_unwind(AssertUnwindSafe(|| handler::main(context)));
        let _ = io::stdout().flush(); // a line without an end
        match outcome {
            Ok(response) => {
                let source = builder.source_of(&response);
                self.finish(response, source);
            }
            Err(_) => self.answer(500, &HashMap::new(), b"", false), // the hook has told it
        }
    }

    fn finish(&self, response: Response, source: Option<Source>) {
        let status = if response.status_code == 0 { 200 } else { response.status_code };
        if !(100..=999).contains(&status) {
            self.error(&format!("Invalid status code: {status}"));
            self.answer(500, &HashMap::new(), b"", false);
        } else if let Some(source) = source {
            self.send_stream(status, &response.headers, source);
        } else {
            self.answer(status, &response.headers, &response.body, false);
        }
    }

    fn time_out(&self) {
        self.error("Execution timed out.");
        self.answer(500, &HashMap::new(), b"", true);
    }

    /// Answers, unless that was done; a streamed response that has begun is broken off.
    fn answer(&self, status: u16, headers: &HashMap<String, String>, body: &[u8], is_timeout: bool) {
        let mut state = locked(&self.state);
        if !state.is_open {
            return;
        }
        if state.is_streaming {
            self.end_stream(state, true, is_timeout);
            return;
        }
        state.is_open = false;
        let mut frames = self.take_pending(&mut state);
        drop(state);
        self.close();
        let first = &body[..body.len().min(BODY_PIECE_BYTES)];
        let more = first.len() < body.len();
        let headers = request::response_headers(headers);
        frames.extend(encoded(
            &json!({"type": "response", "id": self.id, "status": status, "headers": headers, "more": more,
                    "timed_out": is_timeout}),
            first,
        ));
        send_raw(&frames);
        let rest = &body[first.len()..];
        let count = rest.len().div_ceil(BODY_PIECE_BYTES);
        for (at, piece) in rest.chunks(BODY_PIECE_BYTES).enumerate() {
            send_raw(&encoded(&json!({"type": "body", "id": self.id, "more": at + 1 < count}), piece));
        }
    }

    /// Answers with the head, then with the pieces that the source writes.
    fn send_stream(&self, status: u16, headers: &HashMap<String, String>, source: Source) {
        let mut state = locked(&self.state);
        if !state.is_open {
            return;
        }
        state.is_streaming = true;
        self.flush_now(&mut state);
        let headers = request::response_headers(headers);
        let head = json!({"type": "response", "id": self.id, "status": status, "headers": headers, "more": true,
                          "stream": true});
        send_raw(&encoded(&head, b""));
        drop(state);
        let mut write = |data: &[u8]| self.send_pieces(data);
        let outcome = catch_unwind(AssertUnwindSafe(|| source(&mut Stream::new(&mut write))));
        let is_broken = match outcome {
            Ok(Ok(())) => false,
            Ok(Err(problem)) if problem.get_ref().is_some_and(|inner| inner.is::<StreamClosed>()) => true,
            Ok(Err(problem)) => {
                self.error(&problem.to_string());
                true
            }
            Err(_) => true,
        };
        let state = locked(&self.state);
        if state.is_open {
            self.end_stream(state, is_broken, false);
        }
    }

    /// Sends pieces of a streamed body; waits while the host has not taken what was sent before.
    fn send_pieces(&self, data: &[u8]) -> Result<(), StreamClosed> {
        for piece in data.chunks(PIECE_BYTES) {
            let mut state = locked(&self.state);
            while !state.is_stopped && state.room < piece.len() {
                state = self.has_room.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            if state.is_stopped {
                return Err(StreamClosed);
            }
            state.room -= piece.len();
            self.flush_now(&mut state);
            send_raw(&encoded(&json!({"type": "body", "id": self.id, "more": true}), piece));
        }
        Ok(())
    }

    /// Sends the last frame, also of a response that was canceled: its source has stopped.
    fn end_stream(&self, mut state: MutexGuard<'_, State>, is_broken: bool, is_timeout: bool) {
        self.flush_now(&mut state);
        state.is_open = false;
        state.is_stopped = true;
        self.has_room.notify_all();
        drop(state);
        self.close();
        let last = json!({"type": "body", "id": self.id, "more": false, "broken": is_broken, "timed_out": is_timeout});
        send_raw(&encoded(&last, b""));
    }

    pub fn cancel(&self) {
        let mut state = locked(&self.state);
        state.is_stopped = true;
        state.is_open = state.is_open && state.is_streaming;
        self.has_room.notify_all();
        let is_streaming = state.is_streaming;
        drop(state);
        if !is_streaming {
            self.close();
        }
    }

    pub fn acknowledge(&self, size: usize) {
        locked(&self.state).room += size;
        self.has_room.notify_all();
    }

    fn close(&self) {
        locked(running()).remove(&self.id);
    }
}
