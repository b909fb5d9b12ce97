//! Takes whole numbers apart: {"numbers": [84]} gives [{"number": 84, "factors": [{"prime": 2, "power": 2}, ...], "divisors": 12}].
const std = @import("std");

const Request = struct { numbers: []const u64 };

const Factor = struct { prime: u64, power: u32 };

const Result = struct { number: u64, factors: []const Factor, divisors: u64 };

pub fn handle(allocator: std.mem.Allocator, input: []const u8) ![]const u8 {
    const request = try std.json.parseFromSliceLeaky(Request, allocator, input, .{});
    const results = try allocator.alloc(Result, request.numbers.len);
    for (request.numbers, results) |number, *result| {
        if (number == 0) return error.ZeroHasNoFactors;
        const factors = try factorize(allocator, number);
        result.* = .{ .number = number, .factors = factors, .divisors = divisors(factors) };
    }
    return std.json.Stringify.valueAlloc(allocator, results, .{});
}

/// Trial division by 2, 3, and then all numbers that neither divides.
fn factorize(allocator: std.mem.Allocator, number: u64) ![]const Factor {
    var factors: std.ArrayList(Factor) = .empty;
    var rest = number;
    var candidate: u64 = 2;
    while (candidate <= rest / candidate) : (candidate = next(candidate)) {
        var power: u32 = 0;
        while (rest % candidate == 0) : (power += 1) rest /= candidate;
        if (power > 0) try factors.append(allocator, .{ .prime = candidate, .power = power });
    }
    if (rest > 1) try factors.append(allocator, .{ .prime = rest, .power = 1 });
    return factors.items;
}

fn next(candidate: u64) u64 {
    return switch (candidate) {
        2 => 3,
        3 => 5,
        else => if (candidate % 6 == 5) candidate + 2 else candidate + 4,
    };
}

fn divisors(factors: []const Factor) u64 {
    var count: u64 = 1;
    for (factors) |factor| count *= factor.power + 1;
    return count;
}
