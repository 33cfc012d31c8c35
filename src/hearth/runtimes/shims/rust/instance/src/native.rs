//! Native output (println!, eprintln!, libraries of C) finds its execution: a thread knows whose it is, threads that it
//! starts inherit that, and this program takes the names `write` and `pthread_create` before the C library.

use crate::execution::Execution;
use crate::{locked, running, stack};
use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(*mut usize, *const c_void, Start, *mut c_void) -> c_int;

#[repr(C)]
struct Piece {
    data: *const c_void,
    length: usize,
}

extern "C" {
    fn writev(descriptor: c_int, pieces: *const Piece, count: c_int) -> isize;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn atexit(action: extern "C" fn()) -> c_int;
}

const RTLD_NEXT: *mut c_void = -1isize as *mut c_void;

thread_local! {
    /// The id of the execution that this thread works for, 0 = none.
    static OWNER: Cell<u64> = const { Cell::new(0) };
}

/// From now on this thread works for an execution.
pub fn own(id: u64) {
    OWNER.with(|owner| owner.set(id));
}

/// The execution that the running thread works for, else the only one that runs.
pub fn owner() -> Option<Arc<Execution>> {
    let id = OWNER.with(Cell::get);
    let all = locked(running());
    match all.get(&id) {
        Some(found) => Some(found.clone()),
        None if all.len() == 1 => all.values().next().cloned(),
        None => None,
    }
}

/// Instead of the C library's, for everything in this program.
///
/// # Safety
/// As write(2).
#[no_mangle]
pub unsafe extern "C" fn write(descriptor: c_int, data: *const c_void, length: usize) -> isize {
    if (descriptor == 1 || descriptor == 2) && OWNER.with(Cell::get) != 0 {
        if let Some(execution) = owner() {
            execution.write("native", std::slice::from_raw_parts(data.cast(), length));
            return length as isize;
        }
    }
    writev(descriptor, &Piece { data, length }, 1)
}

struct Begin {
    owner: u64,
    start: Start,
    argument: *mut c_void,
}

extern "C" fn begin(data: *mut c_void) -> *mut c_void {
    // SAFETY: made by `pthread_create` below for this thread alone.
    let begin = *unsafe { Box::from_raw(data.cast::<Begin>()) };
    own(begin.owner);
    (begin.start)(begin.argument)
}

/// Instead of the C library's, which it calls.
///
/// # Safety
/// As pthread_create(3).
#[no_mangle]
pub unsafe extern "C" fn pthread_create(
    thread: *mut usize,
    attributes: *const c_void,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let original = dlsym(RTLD_NEXT, c"pthread_create".as_ptr());
    let original: Create = std::mem::transmute(original);
    let data = Box::into_raw(Box::new(Begin { owner: OWNER.with(Cell::get), start, argument }));
    let problem = original(thread, attributes, begin, data.cast());
    if problem != 0 {
        drop(Box::from_raw(data));
    }
    problem
}

/// Tells whoever is concerned why this process is about to end.
pub fn hear_exit() {
    extern "C" fn on_exit() {
        if let Some(execution) = owner() {
            execution.error(&format!("The function ended its process.{}", stack::own_frames()));
            execution.flush();
        }
    }
    // SAFETY: the action is a function of this program.
    unsafe { atexit(on_exit) };
}
