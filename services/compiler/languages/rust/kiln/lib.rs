//! What Kiln gives to functions in Rust, and what makes one file a module.

#[doc(hidden)]
pub mod adapter;
mod heap;
mod host;
mod printing;

use std::fmt::Display;

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug = 0,
    Info = 1,
    Warn = 2,
    Error = 3,
}

/// Writes a line to the log of this run. `println!` does so too, as `Level::Info`, and `eprintln!` and `dbg!`, as `Level::Error`.
pub fn log(level: Level, message: impl Display) {
    host::log(level as i32, &message.to_string());
}

/// The time, in milliseconds since 1970 in UTC. `std::time` has no clock here.
pub fn now_ms() -> i64 {
    host::now_ms()
}

/// Fills a buffer with random bytes.
pub fn random(buffer: &mut [u8]) {
    host::random(buffer);
}

/// A value that the function was deployed with; `None` when there is none of this name. `std::env` has none.
pub fn env(name: &str) -> Option<String> {
    host::env(name)
}
