//! One thread that does what has to be done later: timeouts, and the end of a flood of log lines.

use crate::execution::Execution;
use crate::locked;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Instant;

/// What is done with an execution that is still there.
pub type Act = fn(&Execution);

#[derive(Default)]
struct Clock {
    due: Mutex<BTreeMap<(Instant, u64), (Weak<Execution>, Act)>>,
    changed: Condvar,
}

/// Plans something for later; an execution that has ended is left alone by what is done.
pub fn plan(at: Instant, execution: Weak<Execution>, act: Act) {
    static CLOCK: OnceLock<Clock> = OnceLock::new();
    static COUNT: Mutex<u64> = Mutex::new(0);
    let mut is_new = false;
    let clock = CLOCK.get_or_init(|| {
        is_new = true;
        Clock::default()
    });
    if is_new {
        thread::spawn(|| run(CLOCK.get().expect("made above")));
    }
    let number = {
        let mut count = locked(&COUNT);
        *count += 1;
        *count
    };
    locked(&clock.due).insert((at, number), (execution, act));
    clock.changed.notify_one();
}

fn run(clock: &'static Clock) {
    let mut due = locked(&clock.due);
    loop {
        let Some((&key, _)) = due.first_key_value() else {
            due = clock.changed.wait(due).unwrap_or_else(|poisoned| poisoned.into_inner());
            continue;
        };
        let now = Instant::now();
        if key.0 > now {
            let waited = clock.changed.wait_timeout(due, key.0 - now);
            due = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
            continue;
        }
        let Some((execution, act)) = due.remove(&key) else { continue };
        drop(due);
        if let Some(execution) = execution.upgrade() {
            act(&execution);
        }
        due = locked(&clock.due);
    }
}
