//! What Kiln offers a function besides its input: `const kiln = @import("kiln");`.
const std = @import("std");

const host = struct {
    extern "kiln" fn fail(message: [*]const u8, size: usize) noreturn;
    extern "kiln" fn log(level: i32, message: [*]const u8, size: usize) void;
    extern "kiln" fn now_ms() i64;
    extern "kiln" fn random(buffer: [*]u8, size: usize) void;
    extern "kiln" fn env_get(name: [*]const u8, name_size: usize, buffer: [*]u8, capacity: usize) i32;
};

/// How much a line of the log matters.
pub const Level = enum(i32) { debug = 0, info = 1, warn = 2, err = 3 };

/// Ends the run as FAILED with this message, UTF-8 text that the caller will see.
pub fn fail(message: []const u8) noreturn {
    host.fail(message.ptr, message.len);
}

/// Adds a line to the log of the run.
pub fn log(level: Level, message: []const u8) void {
    host.log(@intFromEnum(level), message.ptr, message.len);
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub fn nowMs() i64 {
    return host.now_ms();
}

/// Fills the buffer with random bytes.
pub fn random(buffer: []u8) void {
    host.random(buffer.ptr, buffer.len);
}

/// The value of a variable of the function's environment, null when it is not set.
pub fn env(allocator: std.mem.Allocator, name: []const u8) !?[]const u8 {
    const size = host.env_get(name.ptr, name.len, @ptrCast(&nothing), 0);
    if (size < 0) return null;
    const value = try allocator.alloc(u8, @intCast(size));
    _ = host.env_get(name.ptr, name.len, value.ptr, value.len);
    return value;
}

var nothing: [1]u8 = undefined;
