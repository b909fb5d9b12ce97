//! `print!` and its kind: what they print is a log, line by line. The standard library's own print to nowhere.

use crate::host;
use crate::Level;
use std::cell::RefCell;
use std::fmt::Arguments;

thread_local! {
    static BEGUN: RefCell<[String; 2]> = RefCell::default();
}

const LEVELS: [Level; 2] = [Level::Info, Level::Error];

pub fn print(stream: usize, text: Arguments) {
    // Before anything is borrowed: to write a value may print others.
    let text = text.to_string();
    BEGUN.with(|begun| {
        let line = &mut begun.borrow_mut()[stream];
        line.push_str(&text);
        while let Some(end) = line.find('\n') {
            host::log(LEVELS[stream] as i32, &line[..end]);
            line.drain(..=end);
        }
    });
}

/// Ends the lines that have none.
pub fn flush() {
    for stream in 0..LEVELS.len() {
        if BEGUN.with(|begun| !begun.borrow()[stream].is_empty()) {
            print(stream, format_args!("\n"));
        }
    }
}

#[macro_export]
macro_rules! print {
    ($($text:tt)*) => { $crate::adapter::print(0, ::std::format_args!($($text)*)) };
}

#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($text:tt)*) => { $crate::adapter::print_line(0, ::std::format_args!($($text)*)) };
}

#[macro_export]
macro_rules! eprint {
    ($($text:tt)*) => { $crate::adapter::print(1, ::std::format_args!($($text)*)) };
}

#[macro_export]
macro_rules! eprintln {
    () => { $crate::eprint!("\n") };
    ($($text:tt)*) => { $crate::adapter::print_line(1, ::std::format_args!($($text)*)) };
}

#[macro_export]
macro_rules! dbg {
    () => { $crate::eprintln!("[{}:{}]", ::std::file!(), ::std::line!()) };
    ($value:expr $(,)?) => {
        match $value {
            value => {
                $crate::eprintln!("[{}:{}] {} = {:#?}", ::std::file!(), ::std::line!(), ::std::stringify!($value), &value);
                value
            }
        }
    };
    ($($value:expr),+ $(,)?) => { ($($crate::dbg!($value)),+,) };
}
