//! Packs texts and unpacks them again by counting runs of the same character: {"pack": "aaab"} gives {"packed": "3a1b", ...}.
const std = @import("std");

const Request = struct { pack: ?[]const u8 = null, unpack: ?[]const u8 = null };

const max_unpacked = 1 << 20;

pub fn handle(allocator: std.mem.Allocator, input: []const u8) ![]const u8 {
    const request = try std.json.parseFromSliceLeaky(Request, allocator, input, .{});
    const packed_text = if (request.pack) |text| try pack(allocator, text) else null;
    const unpacked_text = if (request.unpack) |text| try unpack(allocator, text) else null;
    if (packed_text == null and unpacked_text == null) return error.NothingToDo;
    std.log.info("packed {d} bytes, unpacked {d}", .{ length(packed_text), length(unpacked_text) });
    const answer = .{ .@"packed" = packed_text, .unpacked = unpacked_text };
    return std.json.Stringify.valueAlloc(allocator, answer, .{ .emit_null_optional_fields = false });
}

fn length(text: ?[]const u8) usize {
    return if (text) |it| it.len else 0;
}

fn pack(allocator: std.mem.Allocator, text: []const u8) ![]const u8 {
    var out: std.ArrayList(u8) = .empty;
    var characters = (try std.unicode.Utf8View.init(text)).iterator();
    var current = characters.nextCodepointSlice() orelse return "";
    var run: usize = 1;
    while (characters.nextCodepointSlice()) |character| {
        if (std.mem.eql(u8, character, current)) {
            run += 1;
            continue;
        }
        try out.print(allocator, "{d}{s}", .{ run, current });
        current = character;
        run = 1;
    }
    try out.print(allocator, "{d}{s}", .{ run, current });
    return out.items;
}

fn unpack(allocator: std.mem.Allocator, text: []const u8) ![]const u8 {
    var out: std.ArrayList(u8) = .empty;
    var characters = (try std.unicode.Utf8View.init(text)).iterator();
    var run: usize = 0;
    while (characters.nextCodepointSlice()) |character| {
        if (std.ascii.isDigit(character[0])) {
            run = try std.math.add(usize, try std.math.mul(usize, run, 10), character[0] - '0');
            continue;
        }
        if (run == 0) return error.CountIsMissing;
        if (out.items.len + run * character.len > max_unpacked) return error.TextIsTooLong;
        for (0..run) |_| try out.appendSlice(allocator, character);
        run = 0;
    }
    if (run != 0) return error.CharacterIsMissing;
    return out.items;
}
