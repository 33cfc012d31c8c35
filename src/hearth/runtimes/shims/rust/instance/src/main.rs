//! The server inside a Rust instance, compiled together with the function: takes frames from descriptor 3, calls the
//! handler in a thread of its own, answers. Started by compiled/launch.py, which has taken the assignment.

mod channel;
mod clock;
mod execution;
mod native;
mod request;
mod stack;

use execution::Execution;
use serde_json::{json, Value};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// What was locked stays usable when a thread has panicked with it: nothing here is left half done.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The executions that run, by id.
pub fn running() -> &'static Mutex<HashMap<u64, Arc<Execution>>> {
    static RUNNING: OnceLock<Mutex<HashMap<u64, Arc<Execution>>>> = OnceLock::new();
    RUNNING.get_or_init(Default::default)
}

fn main() {
    channel::keep_from_children();
    native::hear_exit();
    stack::hear_panics();
    let concurrency = take_number("HEARTH_CONCURRENCY", 1);
    let window = take_number("HEARTH_WINDOW", 0);
    let enforced = Arc::new(enforced_headers());
    channel::send(&json!({"type": "loaded", "concurrency": concurrency}), b"");
    loop {
        let (header, body) = channel::receive();
        let id = header["id"].as_u64().unwrap_or(0);
        if header["type"] == "request" {
            let made = Arc::new(Execution::new(header.clone(), window as usize, enforced.clone()));
            locked(running()).insert(id, made);
        }
        let Some(execution) = locked(running()).get(&id).cloned() else {
            continue; // it has ended meanwhile
        };
        match header["type"].as_str() {
            Some("request" | "body") => {
                execution.take_body(&body);
                if header["more"] != true {
                    execution.start();
                }
            }
            Some("cancel") => execution.cancel(),
            Some("ack") => execution.acknowledge(header["size"].as_u64().unwrap_or(0) as usize),
            _ => {}
        }
    }
}

fn take_number(name: &str, fallback: u64) -> u64 {
    let number = std::env::var(name).ok().and_then(|text| text.parse().ok());
    std::env::remove_var(name);
    number.unwrap_or(fallback)
}

/// Headers that win over those of every request (contract: runtime-contract 8, case 54).
fn enforced_headers() -> HashMap<String, String> {
    let given: HashMap<String, Value> = std::env::var("OPEN_RUNTIMES_HEADERS")
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    given.into_iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect()
}
