//! Where a panic came from: the frames of the user's own code.

use crate::native;
use std::backtrace::Backtrace;
use std::panic;

/// The folder that the function's files are compiled in (see build/rust.py).
const FOLDER: &str = "hearth-function/";

/// Shows panics in the errors of their execution; elsewhere they are native output.
pub fn hear_panics() {
    panic::set_hook(Box::new(|info| {
        let words = match info.payload() {
            payload if payload.is::<&str>() => payload.downcast_ref::<&str>().map(|text| text.to_string()),
            payload => payload.downcast_ref::<String>().cloned(),
        };
        let place = info.location().map_or(String::new(), |at| {
            let file = own_file(at.file()).unwrap_or(at.file());
            format!(" at {file}:{}:{}", at.line(), at.column())
        });
        let text = format!("panicked{place}: {}{}", words.unwrap_or_default(), own_frames());
        match native::owner() {
            Some(execution) => execution.error(&text),
            None => eprintln!("{text}"),
        }
    }));
}

/// The part of a path below the function's folder.
fn own_file(path: &str) -> Option<&str> {
    path.find(FOLDER).map(|at| &path[at + FOLDER.len()..])
}

/// The frames of the user's code that run now, a line each; `""` if there are none.
pub fn own_frames() -> String {
    let shown = Backtrace::force_capture().to_string();
    let mut frames = String::new();
    let mut name = "";
    for line in shown.lines().map(str::trim) {
        if let Some(place) = line.strip_prefix("at ") {
            if let Some(file) = own_file(place) {
                frames += &format!("\n    at {name} ({file})");
            }
        } else if let Some((_, function)) = line.split_once(": ") {
            name = function;
        }
    }
    frames
}
