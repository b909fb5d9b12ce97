//! Makes a function callable for the host: it gives and takes texts by place and size. Errors and panics end the run with a message.
const std = @import("std");
const function = @import("function");
const kiln = @import("kiln");

extern "kiln" fn out_of_memory() noreturn;

pub const panic = std.debug.FullPanic(panicked);

/// Every level is kept: nobody else could set one.
pub const std_options: std.Options = .{ .logFn = logged, .log_level = .debug };

comptime {
    if (!@hasDecl(function, "handle")) @compileError("kiln: no handle");
    if (!fits(@TypeOf(function.handle))) @compileError("kiln: handle is " ++ @typeName(@TypeOf(function.handle)));
}

fn fits(comptime Found: type) bool {
    const found = switch (@typeInfo(Found)) {
        .@"fn" => |it| it,
        else => return false,
    };
    return found.param_types.len == 2 and found.param_types[0] == std.mem.Allocator and found.param_types[1] == []const u8;
}

/// Memory is never given back: each call has an instance of its own.
export fn kiln_alloc(size: usize) ?[*]u8 {
    const memory = std.heap.wasm_allocator.alloc(u8, size) catch return null;
    return memory.ptr;
}

export fn handle(pointer: [*]const u8, size: usize) u64 {
    const outcome = function.handle(std.heap.wasm_allocator, pointer[0..size]);
    const output: []const u8 = switch (@typeInfo(@TypeOf(outcome))) {
        .error_union => outcome catch |err| failed(err),
        else => outcome,
    };
    return @as(u64, @intFromPtr(output.ptr)) << 32 | output.len;
}

fn failed(err: anyerror) noreturn {
    if (err == error.OutOfMemory) out_of_memory();
    kiln.fail(@errorName(err));
}

fn panicked(message: []const u8, _: ?usize) noreturn {
    kiln.fail(std.fmt.allocPrint(std.heap.wasm_allocator, "panic: {s}", .{message}) catch message);
}

fn logged(comptime level: std.log.Level, comptime scope: @EnumLiteral(), comptime format: []const u8, args: anytype) void {
    const prefix = if (scope == .default) "" else @tagName(scope) ++ ": ";
    const line = std.fmt.allocPrint(std.heap.wasm_allocator, prefix ++ format, args) catch out_of_memory();
    defer std.heap.wasm_allocator.free(line);
    kiln.log(switch (level) {
        .debug => .debug,
        .info => .info,
        .warn => .warn,
        .err => .err,
    }, line);
}
