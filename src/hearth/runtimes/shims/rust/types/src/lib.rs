//! The types of a handler (contract: runtime-contract 1 to 4). It stands in for the crate `openruntimes-types-for-rust`
//! in builds, and offers what handlers use of it, and `stream`.

mod request;
mod response;

pub use request::ContextRequest;
pub use response::{ContextResponse, Response, Source, Stream, StreamClosed, STREAM_HEADER};

use std::sync::Arc;

const MESSAGE_MAX_CHARS: usize = 8000;
const TRUNCATED: &str = "... Log truncated due to size limit (8000 characters)";

/// A value that can be logged.
pub trait LogMessage {
    /// The text of it in a line of the log.
    fn to_log_string(&self) -> String;
}

macro_rules! as_text {
    ($($kind:ty),*) => { $(
        impl LogMessage for $kind {
            fn to_log_string(&self) -> String {
                self.to_string()
            }
        }
    )* };
}

macro_rules! as_json {
    ($($kind:ty),*) => { $(
        impl LogMessage for $kind {
            fn to_log_string(&self) -> String {
                serde_json::to_string(self).unwrap_or_default()
            }
        }
    )* };
}

as_text!(&str, String, &String, char, bool, f32, f64);
as_text!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);
as_json!(serde_json::Value, &serde_json::Value, Vec<&str>, Vec<String>, Vec<serde_json::Value>);

/// Which of the two logs of an execution a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggerType {
    Log,
    Error,
}

type Sink = dyn Fn(LoggerType, &str) + Send + Sync;

/// Where the lines of one execution go. From any thread.
#[derive(Clone)]
pub struct Logger {
    pub id: String,
    sink: Arc<Sink>,
}

impl Logger {
    /// A logger whose lines, without their ends, go to `sink`.
    pub fn new(id: String, sink: Arc<Sink>) -> Self {
        Logger { id, sink }
    }

    /// Writes one line: the messages, joined by spaces.
    pub fn write(&self, messages: Vec<String>, kind: LoggerType, _native: bool) {
        (self.sink)(kind, &cut(messages.join(" ")));
    }
}

fn cut(mut line: String) -> String {
    if let Some((at, _)) = line.char_indices().nth(MESSAGE_MAX_CHARS) {
        line.truncate(at);
        line.push_str(TRUNCATED);
    }
    line
}

/// The argument of a handler.
#[derive(Clone)]
pub struct Context {
    pub req: ContextRequest,
    pub res: ContextResponse,
    logger: Logger,
}

impl Context {
    pub fn new(logger: Logger) -> Self {
        Context { req: ContextRequest::new(), res: ContextResponse::new(), logger }
    }

    /// Writes one line to the logs of the execution.
    pub fn log<T: LogMessage>(&self, message: T) {
        self.log_multiple(vec![message.to_log_string()]);
    }

    pub fn log_multiple(&self, messages: Vec<String>) {
        self.logger.write(messages, LoggerType::Log, false);
    }

    /// Writes one line to the errors of the execution.
    pub fn error<T: LogMessage>(&self, message: T) {
        self.error_multiple(vec![message.to_log_string()]);
    }

    pub fn error_multiple(&self, messages: Vec<String>) {
        self.logger.write(messages, LoggerType::Error, false);
    }

    pub fn get_logger(&self) -> &Logger {
        &self.logger
    }

    pub fn get_logger_mut(&mut self) -> &mut Logger {
        &mut self.logger
    }
}
