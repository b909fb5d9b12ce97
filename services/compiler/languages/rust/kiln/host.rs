//! The imports of the ABI, made safe.

mod import {
    #[link(wasm_import_module = "kiln")]
    extern "C" {
        pub fn fail(message: *const u8, size: usize) -> !;
        pub fn out_of_memory() -> !;
        pub fn log(level: i32, message: *const u8, size: usize);
        pub fn now_ms() -> i64;
        pub fn random(buffer: *mut u8, size: usize);
        pub fn env_get(name: *const u8, name_size: usize, buffer: *mut u8, capacity: usize) -> i32;
    }
}

pub fn fail(message: &str) -> ! {
    unsafe { import::fail(message.as_ptr(), message.len()) }
}

pub fn out_of_memory() -> ! {
    unsafe { import::out_of_memory() }
}

pub fn log(level: i32, message: &str) {
    unsafe { import::log(level, message.as_ptr(), message.len()) }
}

pub fn now_ms() -> i64 {
    unsafe { import::now_ms() }
}

pub fn random(buffer: &mut [u8]) {
    unsafe { import::random(buffer.as_mut_ptr(), buffer.len()) }
}

pub fn env(name: &str) -> Option<String> {
    let get = |buffer: &mut [u8]| unsafe { import::env_get(name.as_ptr(), name.len(), buffer.as_mut_ptr(), buffer.len()) };
    let size = usize::try_from(get(&mut [])).ok()?;
    let mut value = vec![0; size];
    get(&mut value);
    String::from_utf8(value).ok()
}
