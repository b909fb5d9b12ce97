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
    @export(&run, .{ .name = "handle" });
}

fn fits(comptime Found: type) bool {
    const found = switch (@typeInfo(Found)) {
        .@"fn" => |it| it,
        else => return false,
    };
    const is_called = found.param_types.len == 2 and found.param_types[0] == std.mem.Allocator and found.param_types[1] == []const u8;
    return is_called and (found.return_type == null or answers(found.return_type.?));
}

/// Whether there are bytes in it.
fn answers(comptime Result: type) bool {
    return switch (@typeInfo(Result)) {
        .error_union => |it| answers(it.payload),
        .pointer => |it| switch (it.size) {
            .slice => it.child == u8,
            .one => @typeInfo(it.child) == .array and @typeInfo(it.child).array.child == u8,
            else => false,
        },
        .noreturn => true,
        else => false,
    };
}

/// Memory is never given back: each call has an instance of its own.
export fn kiln_alloc(size: usize) ?[*]u8 {
    const memory = std.heap.wasm_allocator.alloc(u8, size) catch return null;
    return memory.ptr;
}

fn run(pointer: [*]const u8, size: usize) callconv(.c) u64 {
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
