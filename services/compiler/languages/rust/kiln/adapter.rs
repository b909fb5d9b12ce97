//! What the host calls, around the user's `handle`.

use crate::host;
use crate::printing;
use std::alloc::{alloc, Layout};
use std::fmt::{Arguments, Display};

pub use crate::printing::print;

pub type Output<E> = Result<String, E>;

pub fn print_line(stream: usize, text: Arguments) {
    print(stream, format_args!("{}\n", text));
}

/// The input, which the host has written to what `kiln_alloc` gave it.
pub fn begin(input: *const u8, size: usize) -> &'static str {
    std::panic::set_hook(Box::new(|panic| {
        let message = match panic.payload().downcast_ref::<&str>() {
            Some(text) => text,
            None => panic
                .payload()
                .downcast_ref::<String>()
                .map_or("a value that is no text", |text| text),
        };
        let place = panic.location().map_or(String::new(), |place| format!(" at {}", place));
        stop(&format!("panicked{}: {}{}", place, message, instead(message)));
    }));
    let bytes = unsafe { std::slice::from_raw_parts(input, size) };
    std::str::from_utf8(bytes).unwrap_or_else(|_| stop("the input is not UTF-8"))
}

/// Where the output is, as the host wants it: `pointer << 32 | size`.
pub fn end<E: Display>(result: Output<E>) -> u64 {
    let output = result.unwrap_or_else(|error| match error.to_string() {
        message if message.is_empty() => stop("the function returned an error without a message"),
        message => stop(&message),
    });
    printing::flush();
    let output = Box::leak(output.into_boxed_str());
    (output.as_ptr() as u64) << 32 | output.len() as u64
}

fn stop(message: &str) -> ! {
    printing::flush();
    host::fail(message)
}

/// What to use instead of parts of the standard library that are not there.
fn instead(message: &str) -> &'static str {
    match message {
        "time not implemented on this platform" => "; use kiln::now_ms()",
        _ if message.starts_with("failed to spawn thread") => "; functions have one thread",
        _ => "",
    }
}

#[no_mangle]
extern "C" fn kiln_alloc(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size.max(1)) {
        Ok(layout) => unsafe { alloc(layout) },
        Err(_) => host::out_of_memory(),
    }
}

/// The rest of each user's file. Its `handle` may have any kind of error, and parameters that a `&'static str` fits.
#[macro_export]
macro_rules! __kiln_function {
    () => {
        const _: () = {
            #[export_name = "handle"]
            extern "C" fn kiln_handle(input: *const u8, size: usize) -> u64 {
                let result: $crate::adapter::Output<_> = crate::handle($crate::adapter::begin(input, size));
                $crate::adapter::end(result)
            }
        };
    };
}
