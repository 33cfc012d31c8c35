//! The framed protocol over descriptor 3 (docs/protocol.md), blocking. Writes block until the host has taken them:
//! nothing queues up in this process, and what was written before a crash has left it.

use crate::locked;
use serde_json::Value;
use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::sync::Mutex;

const CHANNEL: i32 = 3;
const FRAME_MAX_BYTES: usize = 2 * 1024 * 1024 + 4;
pub const BODY_PIECE_BYTES: usize = 512 * 1024;
const F_SETFD: i32 = 2;
const FD_CLOEXEC: i32 = 1;

extern "C" {
    fn fcntl(descriptor: i32, command: i32, argument: i32) -> i32;
    fn _exit(code: i32) -> !;
}

static WRITING: Mutex<()> = Mutex::new(());

/// Children do not get the channel.
pub fn keep_from_children() {
    // SAFETY: changes a flag of a descriptor that this process was started with.
    unsafe { fcntl(CHANNEL, F_SETFD, FD_CLOEXEC) };
}

fn file() -> ManuallyDrop<File> {
    // SAFETY: the descriptor is open for the whole life of this process, and never closed by what is returned.
    ManuallyDrop::new(unsafe { File::from_raw_fd(CHANNEL) })
}

/// Ends this process without a word: the host has gone.
pub fn leave() -> ! {
    // SAFETY: never returns.
    unsafe { _exit(0) }
}

/// One frame, ready to be sent.
pub fn encoded(header: &Value, body: &[u8]) -> Vec<u8> {
    let head = header.to_string().into_bytes();
    let mut frame = Vec::with_capacity(8 + head.len() + body.len());
    frame.extend_from_slice(&((4 + head.len() + body.len()) as u32).to_be_bytes());
    frame.extend_from_slice(&(head.len() as u32).to_be_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(body);
    frame
}

/// Writes one frame.
pub fn send(header: &Value, body: &[u8]) {
    send_raw(&encoded(header, body));
}

/// Writes whole frames, those of one call together. Any thread may call it.
pub fn send_raw(frames: &[u8]) {
    let _alone = locked(&WRITING);
    if file().write_all(frames).is_err() {
        leave();
    }
}

/// Waits for a frame: its header and body. Ends this process when the host has gone.
pub fn receive() -> (Value, Vec<u8>) {
    let length = u32::from_be_bytes(exactly(4).try_into().expect("four bytes")) as usize;
    assert!((4..=FRAME_MAX_BYTES).contains(&length), "a frame of {length} bytes");
    let rest = exactly(length);
    let head_end = 4 + u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
    let header = serde_json::from_slice(&rest[4..head_end]).expect("a header of JSON");
    (header, rest[head_end..].to_vec())
}

fn exactly(length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    if file().read_exact(&mut data).is_err() {
        leave();
    }
    data
}
